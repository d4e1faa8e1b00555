package bench

import "math"

// MaxExponent bounds the growth of costs: linear, with a margin for noise.
const MaxExponent = 1.15

// Exponent returns the growth of a cost with a size: 0 is constant, 1 linear, 2 quadratic. It is the slope of
// the least-squares line through the logarithms. There must be at least two sizes, and all values must be
// positive.
func Exponent(sizes, costs []float64) float64 {
	var sizesMean, costsMean float64
	for index := range sizes {
		sizesMean += math.Log(sizes[index]) / float64(len(sizes))
		costsMean += math.Log(costs[index]) / float64(len(sizes))
	}
	var both, squares float64
	for index := range sizes {
		distance := math.Log(sizes[index]) - sizesMean
		both += distance * (math.Log(costs[index]) - costsMean)
		squares += distance * distance
	}
	return both / squares
}
