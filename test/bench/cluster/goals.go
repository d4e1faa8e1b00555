package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// goal bounds the ratio of two figures, or a sum of figures. A figure's name may lack the size at its end.
type goal struct {
	names []string
	// limit is the figure for the ratio; empty for a sum.
	limit       string
	most, least float64
}

// goals are those of the project (issue 29).
func goals() []goal {
	return []goal{
		{names: []string{"triggered to started, warm"}, limit: helloWarm, most: 3},
		{names: []string{"completed to finished, warm"}, limit: helloWarm, most: 3},
		{names: []string{"triggered to started, " + string(fromZero)}, limit: fromZero.limit(), most: 1.2},
		{names: []string{"completed to finished, " + string(fromZero)}, limit: fromZero.limit(), most: 1.2},
		{names: []string{fmt.Sprintf("events that become Jobs, %d in a burst", formerPage)}, limit: formerName, least: 1.2},
		{names: []string{"events that become Jobs once the bridge is ready"}, least: 20},
		{names: []string{"start of executor's process to ready"}, most: 30},
		{names: []string{"start of watcher's process to ready"}, most: 30},
		{names: []string{"tasks that finish"}, limit: bareTiny, least: 0.95},
		{names: []string{"API requests per task, in all"}, most: 5},
		{names: []string{"memory of bridge while idle", "memory of jobsource while idle"}, most: 15},
		{names: []string{"CPU of bridge while idle", "CPU of jobsource while idle"}, most: 2},
	}
}

// value returns a goal's value in a report, with its unit; NaN if the report lacks a figure.
func (g goal) value(r *report) (value float64, unit string) {
	for _, name := range g.names {
		index := slices.IndexFunc(r.Figures, func(f figure) bool {
			return strings.HasPrefix(f.Name, name) && strings.HasPrefix(f.Limit, g.limit)
		})
		if index < 0 {
			return math.NaN(), ""
		}
		measured := r.Figures[index]
		if g.limit != "" {
			return r.ratio(measured).median, "× " + measured.Limit
		}
		value, unit = value+measured.median(), measured.Unit
	}
	return value, unit
}

// String returns the bound.
func (g goal) String() string {
	if g.most > 0 {
		return fmt.Sprintf("at most %v", g.most)
	}
	return fmt.Sprintf("at least %v", g.least)
}

// isReached reports whether a value is within the bound.
func (g goal) isReached(value float64) bool {
	return g.most > 0 && value <= g.most || g.least > 0 && value >= g.least
}

// writeGoals writes which of the measured goals were reached.
func (r *report) writeGoals(output io.Writer) error {
	table := tabwriter.NewWriter(output, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "goal\t\tmeasured\tunit\t")
	for _, goal := range goals() {
		value, unit := goal.value(r)
		if math.IsNaN(value) {
			continue
		}
		reached := "missed"
		if goal.isReached(value) {
			reached = "reached"
		}
		fmt.Fprintf(table, "%s\t%s\t%.3g\t%s\t%s\n", strings.Join(goal.names, " + "), goal, value, unit, reached)
	}
	return table.Flush()
}
