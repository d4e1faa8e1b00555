package bench

import "math"

// MaxExponent is how the cost of more of something may grow: as it does, and a little for the noise of what is
// measured.
const MaxExponent = 1.15

// Exponent is how a cost grows with a size: 0 where it stays, 1 where it grows as the size does, 2 as its square.
// It is the slope of the line through the logarithms that has the least squares; sizes and costs are positive, and
// there are two sizes at least.
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
