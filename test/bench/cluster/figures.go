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

// figure is a set of measured values.
type figure struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	// Limit is the figure for comparison.
	Limit  string    `json:"limit,omitempty"`
	Values []float64 `json:"values"`
}

// quantile returns the value above a share of the values; NaN if there are none.
func (f figure) quantile(share float64) float64 {
	if len(f.Values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(f.Values))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

func (f figure) median() float64 { return f.quantile(0.5) }

// inMilliseconds returns a duration in ms, rounded to a microsecond.
func inMilliseconds(took time.Duration) float64 { return float64(took.Microseconds()) / 1000 }

// report is a run of the benchmark.
type report struct {
	Date    time.Time `json:"date"`
	Machine string    `json:"machine"`
	Figures []figure  `json:"figures"`
}

func (r *report) add(name, unit, limit string, values ...float64) {
	r.Figures = append(r.Figures, figure{name, unit, limit, values})
}

// ratio returns the ratio of the medians of a figure and its limit, and the ratios of their quartiles for the
// noise. They are NaN without a limit.
type ratio struct{ low, median, high float64 }

func (r *report) ratio(measured figure) ratio {
	var limit figure
	if index := slices.IndexFunc(r.Figures, func(f figure) bool { return f.Name == measured.Limit }); index >= 0 {
		limit = r.Figures[index]
	}
	return ratio{
		low:    measured.quantile(lower) / limit.quantile(upper),
		median: measured.median() / limit.median(),
		high:   measured.quantile(upper) / limit.quantile(lower),
	}
}

// lower and upper are the quartiles.
const lower, upper = 0.25, 0.75

// write writes it as a table.
func (r *report) write(output io.Writer) error {
	table := tabwriter.NewWriter(output, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "%s, %s\n\n", r.Date.Format(time.DateOnly), r.Machine)
	fmt.Fprintln(table, "figure\tmin\tmedian\t95th\t99th\tunit\tratio\tto")
	for _, figure := range r.Figures {
		ratio := ""
		if value := r.ratio(figure).median; !math.IsNaN(value) {
			ratio = fmt.Sprintf("%.2f", value)
		}
		fmt.Fprintf(table, "%s\t%.4g\t%.4g\t%.4g\t%.4g\t%s\t%s\t%s\n",
			figure.Name, figure.quantile(0), figure.median(), figure.quantile(0.95), figure.quantile(0.99), figure.Unit, ratio, figure.Limit)
	}
	return table.Flush()
}

// noise is the factor by which a ratio's median may exceed the stored one if the quartiles do not overlap.
// Overlapping quartiles are no difference.
const noise = 1.5

// tooSteep returns the figures that grow faster than their size.
func (r *report) tooSteep() (steep []string) {
	for _, figure := range r.Figures {
		if figure.Unit == exponent && figure.median() > growth.MaxExponent {
			steep = append(steep, fmt.Sprintf("%s grows with an exponent of %.2f", figure.Name, figure.median()))
		}
	}
	return steep
}

// kubeletLooks is the interval in milliseconds at which the kubelet checks whether containers have started. By
// chance, a start from zero takes so much longer or shorter.
const kubeletLooks = 1000

// compare returns the figures that are worse than in an earlier run by more than the noise. A larger rate is
// better, and a smaller value of any other figure. Figures of another count have another name and are not
// compared.
func (r *report) compare(earlier *report) (worse []string) {
	for _, measured := range r.Figures {
		index := slices.IndexFunc(earlier.Figures, func(before figure) bool { return before.Name == measured.Name && before.Limit == measured.Limit })
		if index < 0 {
			continue
		}
		now, then := r.ratio(measured), earlier.ratio(earlier.Figures[index])
		line := fmt.Sprintf("%s is %.2f × %s, and was %.2f ×", measured.Name, now.median, measured.Limit, then.median)
		if strings.Contains(measured.Name, string(fromZero)) {
			lucky := measured
			lucky.Values = slices.Clone(measured.Values)
			for index := range lucky.Values {
				lucky.Values[index] -= kubeletLooks
			}
			now = r.ratio(lucky)
		}
		if measured.Unit == perSecond {
			now, then = then, now
		}
		if now.median > noise*then.median && now.low > then.high {
			worse = append(worse, line)
		}
	}
	return worse
}

// perSecond is the unit of rates.
const perSecond = "1/s"

// read reads a report from a file; nil if there is none.
func read(path string) (*report, error) {
	content, err := os.ReadFile(path) //nolint:gosec // the caller's own file
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read an earlier report: %w", err)
	}
	stored := &report{}
	if err := json.Unmarshal(content, stored); err != nil {
		return nil, fmt.Errorf("decode %s: %w", path, err)
	}
	return stored, nil
}
