package allowlist

import "testing"

func TestImagesAreComparedInFull(t *testing.T) {
	const digest = "sha256:9f9a3ee4b5e1f4f0b7b4d2c5c2b8a3d5e6f708192a3b4c5d6e7f8091a2b3c4d5"
	for name, test := range map[string]struct {
		patterns, allowed, forbidden []string
	}{
		"all":  {patterns: []string{"*"}, allowed: []string{"busybox", "evil.example/x"}},
		"none": {forbidden: []string{"busybox"}},
		"an official image, of any tag": {
			patterns: []string{"busybox"},
			allowed: []string{
				"busybox", "busybox:1.36", "library/busybox", "docker.io/library/busybox:latest", "index.docker.io/library/busybox", "busybox@" + digest,
			},
			forbidden: []string{"busybox.evil.example/x", "evil.example/busybox", "somebody/busybox", "busyboxes"},
		},
		"one with a tag": {
			patterns: []string{"busybox:1.36"}, allowed: []string{"busybox:1.36", "docker.io/library/busybox:1.36"},
			// Kubernetes ignores the tag next to a digest.
			forbidden: []string{"busybox", "busybox:1.37", "busybox:1.36@" + digest},
		},
		"the newest": {patterns: []string{"busybox:latest"}, allowed: []string{"busybox"}, forbidden: []string{"busybox:1.36"}},
		"one of a digest": {
			patterns: []string{"busybox@" + digest}, allowed: []string{"busybox@" + digest, "busybox:1.36@" + digest},
			forbidden: []string{"busybox", "somebody/busybox@" + digest},
		},
		"those of a name": {
			patterns: []string{"busybox*"}, allowed: []string{"busybox", "busybox-extra:1"},
			forbidden: []string{"busybox.evil.example/x", "busybox/x"},
		},
		"those of somebody": {
			patterns: []string{" keptncontrib/* "}, allowed: []string{"keptncontrib/x", "docker.io/keptncontrib/x:1"},
			forbidden: []string{"keptncontrib.evil.example/x", "evil.example/keptncontrib/x"},
		},
		"those of a registry": {
			patterns: []string{"registry.example:5000/*"}, allowed: []string{"registry.example:5000/a/b:1"},
			forbidden: []string{"registry.example/a", "a"},
		},
		"those of a local one":  {patterns: []string{"localhost/*"}, allowed: []string{"localhost/a"}, forbidden: []string{"a"}},
		"those of any registry": {patterns: []string{"*/busybox"}, allowed: []string{"busybox", "evil.example/busybox:1"}, forbidden: []string{"busyboxes"}},
		"several":               {patterns: []string{"nginx", "busybox"}, allowed: []string{"busybox", "nginx"}, forbidden: []string{"alpine"}},
		"no name of an image":   {patterns: []string{"*"}, allowed: []string{"a"}, forbidden: []string{"A B"}},
	} {
		t.Run(name, func(t *testing.T) {
			for want, images := range map[bool][]string{true: test.allowed, false: test.forbidden} {
				for _, image := range images {
					if got, err := Image(test.patterns, image); got != want || err != nil {
						t.Errorf("%s: got %v, %v", image, got, err)
					}
				}
			}
		})
	}
}

func TestNamesMatchWholePatterns(t *testing.T) {
	for name, want := range map[string]bool{"deploy": true, "tests-1": true, "deployer": false, "a-tests-1": false, "": false} {
		if got, err := Name([]string{"deploy", " tests-* "}, name); got != want || err != nil {
			t.Errorf("%q: got %v, %v", name, got, err)
		}
	}
	if got, err := Name(nil, "deploy"); got || err != nil {
		t.Errorf("without patterns: got %v, %v", got, err)
	}
}

func TestWhatIsNoPatternIsNamed(t *testing.T) {
	for name, matches := range map[string]func([]string, string) (bool, error){"names": Name, "images": Image} {
		if got, err := matches([]string{"a", "[b"}, "c"); got || err == nil {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func TestSelectorsSelectByLabels(t *testing.T) {
	for selector, want := range map[string]bool{"": false, "a=b": true, "a!=b": false} {
		var parsed Selector
		if err := parsed.UnmarshalText([]byte(selector)); err != nil || parsed.Selects(map[string]string{"a": "b"}) != want {
			t.Errorf("%q: %v, %v", selector, parsed, err)
		}
		if got := parsed.Text(); got != selector {
			t.Errorf("%q is shown as %q", selector, got)
		}
	}
	if err := new(Selector).UnmarshalText([]byte("==")); err == nil {
		t.Error("there is no error")
	}
}
