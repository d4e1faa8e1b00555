package bench

import "math"

// MaxExponent bounds the growth of costs: linear, with a margin for noise.
const MaxExponent = 1.15

// Exponent returns the growth of a cost with a size: 0 is constant, 1 linear, 2 quadratic. It is the slope of
// the least-squares line through the logarithms. There must be at least two sizes, and all values must be
// positive.
func Exponent(sizes, costs []float64) float64 {
	exponent, _ := Slope(logarithms(sizes), logarithms(costs))
	return exponent
}

func logarithms(values []float64) []float64 {
	logarithms := make([]float64, len(values))
	for index, value := range values {
		logarithms[index] = math.Log(value)
	}
	return logarithms
}

// Slope returns the slope of the least-squares line through points, and its standard error, which is not a number for fewer than three
// points.
func Slope(xs, ys []float64) (slope, standardError float64) {
	count := float64(len(xs))
	var xMean, yMean float64
	for index := range xs {
		xMean += xs[index] / count
		yMean += ys[index] / count
	}
	var both, squares float64
	for index := range xs {
		both += (xs[index] - xMean) * (ys[index] - yMean)
		squares += (xs[index] - xMean) * (xs[index] - xMean)
	}
	slope = both / squares
	residuals := 0.0
	for index := range xs {
		residual := ys[index] - yMean - slope*(xs[index]-xMean)
		residuals += residual * residual
	}
	const parameters = 2 // of a line
	return slope, math.Sqrt(residuals / max(count-parameters, 0) / squares)
}
