// Package monitoring parses config/monitoring: alerts and a dashboard.
package monitoring
