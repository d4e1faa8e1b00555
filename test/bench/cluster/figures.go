package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	growth "github.com/job-executor/job-executor/test/bench"
)

// figure is what was measured of one thing.
type figure struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	// Limit is the figure that it is compared to.
	Limit  string    `json:"limit,omitempty"`
	Values []float64 `json:"values"`
}

// quantile is the value below which a share of the values are; NaN if there are none.
func (figure figure) quantile(share float64) float64 {
	if len(figure.Values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(figure.Values))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

func (figure figure) median() float64 { return figure.quantile(0.5) }

// report is a run of the benchmark.
type report struct {
	Date    time.Time `json:"date"`
	Machine string    `json:"machine"`
	Figures []figure  `json:"figures"`
}

func (report *report) add(name, unit, limit string, values ...float64) {
	report.Figures = append(report.Figures, figure{name, unit, limit, values})
}

func (report *report) find(name string) (figure, bool) {
	index := slices.IndexFunc(report.Figures, func(figure figure) bool { return figure.Name == name })
	if index < 0 {
		return figure{}, false
	}
	return report.Figures[index], true
}

// ratio is a figure's median by that of its limit; NaN if it has none.
func (report *report) ratio(measured figure) float64 {
	limit, ok := report.find(measured.Limit)
	if !ok {
		return math.NaN()
	}
	return measured.median() / limit.median()
}

// write writes it as a table.
func (report *report) write(output io.Writer) error {
	table := tabwriter.NewWriter(output, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "%s, %s\n\n", report.Date.Format(time.DateOnly), report.Machine)
	fmt.Fprintln(table, "figure\tmin\tmedian\t95th\t99th\tunit\tratio\tto")
	for _, figure := range report.Figures {
		ratio := ""
		if value := report.ratio(figure); !math.IsNaN(value) {
			ratio = fmt.Sprintf("%.2f", value)
		}
		fmt.Fprintf(table, "%s\t%.4g\t%.4g\t%.4g\t%.4g\t%s\t%s\t%s\n",
			figure.Name, figure.quantile(0), figure.median(), figure.quantile(0.95), figure.quantile(0.99), figure.Unit, ratio, figure.Limit)
	}
	return table.Flush()
}

// noise is by what factor a ratio may be worse than the one that is stored.
const noise = 1.5

// tooSteep returns what grows faster than what it is measured by.
func (report *report) tooSteep() (steep []string) {
	for _, figure := range report.Figures {
		if figure.Unit == exponent && figure.median() > growth.MaxExponent {
			steep = append(steep, fmt.Sprintf("%s grows with an exponent of %.2f", figure.Name, figure.median()))
		}
	}
	return steep
}

// kubeletLooks is how often the kubelet looks whether containers have started, in milliseconds: a start from zero
// takes so much longer or shorter by chance.
const kubeletLooks = 1000

// compare returns what is worse than in an earlier run, by more than the noise. A rate is
// better if it is larger, anything else if it is smaller.
func (report *report) compare(earlier *report) (worse []string) {
	for _, figure := range report.Figures {
		before, ok := earlier.find(figure.Name)
		if !ok {
			continue
		}
		now, then := report.ratio(figure), earlier.ratio(before)
		factor := now / then
		if figure.Unit == perSecond {
			factor = then / now
		}
		if strings.Contains(figure.Name, string(fromZero)) {
			limit, _ := report.find(figure.Limit)
			factor = (figure.median() - kubeletLooks) / limit.median() / then
		}
		if factor > noise {
			worse = append(worse, fmt.Sprintf("%s is %.2f × %s, and was %.2f ×", figure.Name, now, figure.Limit, then))
		}
	}
	return worse
}

// perSecond is the unit of rates.
const perSecond = "1/s"

// read reads a report from a file; nil if there is none.
func read(path string) (*report, error) {
	content, err := os.ReadFile(path) //nolint:gosec // that the caller names
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading an earlier report: %w", err)
	}
	stored := &report{}
	if err := json.Unmarshal(content, stored); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", path, err)
	}
	return stored, nil
}
