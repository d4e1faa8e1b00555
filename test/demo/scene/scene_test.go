package scene

import "testing"

func TestTypeOfAnEventsName(t *testing.T) {
	for name, want := range map[string]string{
		"sh.keptn.event.test.triggered":                  "sh.keptn.event.test.triggered",
		"test.triggered":                                 "sh.keptn.event.test.triggered",
		"load-test":                                      "sh.keptn.event.load-test.triggered",
		"sh.keptn.event.sign-off":                        "sh.keptn.event.sign-off.triggered",
		"sh.keptn.event.(deployment|sign-off).triggered": "sh.keptn.event.deployment.triggered",
		`sh\.keptn\.event\..*\.triggered`:                "sh.keptn.event.test.triggered",
		"sh.keptn.event.(one|two).triggered":             "sh.keptn.event.(one|two).triggered",
		"sh.keptn.event.test.finished":                   "sh.keptn.event.test.finished",
		"(":                                              "(",
	} {
		if got := typeOf(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}
