// Package monitoring reads what config/monitoring holds: alerts, and a dashboard.
package monitoring
