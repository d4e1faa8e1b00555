package jobconfig

import "testing"

func TestDidYouMean(t *testing.T) {
	tests := []struct {
		name, given string
		known       []string
		want        string
	}{
		{name: "the nearest", given: "imge", known: []string{"args", "image"}, want: "; did you mean image?"},
		{name: "of several the first", given: "ame", known: []string{"name", "same"}, want: "; did you mean name?"},
		{name: "a name with the same first letter is preferred", given: "sme", known: []string{"ame", "smp"}, want: "; did you mean smp?"},
		{name: "not a name with other letters only", given: "xy", known: []string{"as"}},
		{name: "not a very different name", given: "imaxxxx", known: []string{"image"}},
		{name: "in letters of any size", given: "Image", known: []string{"image"}, want: "; did you mean image?"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := didYouMean(test.given, test.known); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
