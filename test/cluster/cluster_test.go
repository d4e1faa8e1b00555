package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func testCluster(t *testing.T) *cluster {
	t.Helper()
	cache := t.TempDir()
	return &cluster{repository: t.TempDir(), cache: cache, state: filepath.Join(cache, "cluster"), progress: newProgress()}
}

// Another program may have a process id by now.
func TestOnlyTheProcessThatWasStartedIsOurs(t *testing.T) {
	own := startTime(os.Getpid())
	tests := []struct {
		name, file string
		want       bool
	}{
		{name: "it runs", file: fmt.Sprintf("%d %s", os.Getpid(), own), want: true},
		{name: "its id was given away", file: fmt.Sprintf("%d %s1", os.Getpid(), own)},
		{name: "it has ended", file: "4194305 1"},
		{name: "its file was cut off", file: fmt.Sprintf("%d ", os.Getpid())},
		{name: "its file is empty"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := process{name: "test", file: filepath.Join(t.TempDir(), "test")}
			if err := os.WriteFile(p.file, []byte(test.file), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, running := p.pid(); running != test.want {
				t.Errorf("running: %v", running)
			}
		})
	}
}

func TestProcessStartsOnceAndStops(t *testing.T) {
	cluster := testCluster(t)
	for _, directory := range []string{"processes", "log"} {
		if err := os.MkdirAll(cluster.file(directory), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var ids []int
	for range 2 {
		if err := cluster.start(t.Context(), "sleeper", nil, "sleep", "60"); err != nil {
			t.Fatal(err)
		}
		id, running := cluster.process("sleeper").pid()
		if !running {
			t.Fatal("it does not run")
		}
		ids = append(ids, id)
	}
	if ids[0] != ids[1] {
		t.Errorf("it was started twice: %v", ids)
	}
	if ended := cluster.ended(); len(ended) > 0 {
		t.Errorf("these are said to have ended: %v", ended)
	}
	if err := cluster.process("sleeper").stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if startTime(ids[0]) != "" {
		t.Error("it still runs")
	}
}

// After a restart of the machine, the cluster's files remain but nothing works, and the API server's state is
// outdated.
func TestClusterOfWhichAProgramEndedIsNotUp(t *testing.T) {
	cluster := testCluster(t)
	if err := os.MkdirAll(cluster.file("processes"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"up": "", "processes/etcd": fmt.Sprintf("%d %s", os.Getpid(), startTime(os.Getpid())), "processes/kubelet": "4194305 1",
	} {
		if err := os.WriteFile(cluster.file(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const want = "the cluster is not well, take it down and up again: kubelet ended"
	if err := cluster.status(t.Context()); err == nil || err.Error() != want {
		t.Errorf("the cluster's status is %v, not %s", err, want)
	}
}

func TestWhatEndsIsNotWaitedFor(t *testing.T) {
	cluster := testCluster(t)
	for _, directory := range []string{"processes", "log"} {
		if err := os.MkdirAll(cluster.file(directory), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := cluster.start(t.Context(), "broken", answers("127.0.0.1:1"), "sh", "-c", "echo what is wrong; exit 1")
	if err == nil || err.Error() != "broken ended: what is wrong" {
		t.Errorf("got %v", err)
	}
}

func TestArtifactIsMadeAgainWhenItsKeyChanges(t *testing.T) {
	cluster := testCluster(t)
	if err := os.MkdirAll(filepath.Dir(cluster.stamp("x")), 0o755); err != nil {
		t.Fatal(err)
	}
	created := artifact{name: "x", key: "1"}
	if cluster.isMade(created) {
		t.Error("it is made before it was")
	}
	if err := os.WriteFile(cluster.stamp("x"), []byte(created.fullKey()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		artifact artifact
		want     bool
	}{
		{created, true},
		{artifact{name: "x", key: "2"}, false},
		{artifact{name: "x", key: "1", files: []string{"/no/such/file"}}, false},
	} {
		if got := cluster.isMade(test.artifact); got != test.want {
			t.Errorf("%+v is made: %v", test.artifact, got)
		}
	}
}

func TestDigestIsThatOfTheContents(t *testing.T) {
	directory := t.TempDir()
	write := func(content string) string {
		if err := os.WriteFile(filepath.Join(directory, "file"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return digest(directory, ".")
	}
	if one, other := write("a"), write("b"); one == other || other != write("b") {
		t.Error("the digest is not that of the contents")
	}
}

func TestWaitGivesUpOnWhatIsHopeless(t *testing.T) {
	hopeless := errors.New("it ended")
	calls := 0
	err := wait(t.Context(), time.Minute, func() error {
		calls++
		return fatal{hopeless}
	})
	if calls != 1 || err == nil || err.Error() != "it ended" {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestLayerHasFilesDirectoriesAndLinks(t *testing.T) {
	content, err := tarOf([]entry{{name: "tmp/", mode: 0o1777}, {name: "bin/a", mode: 0o755, content: "a"}, {name: "bin/b", link: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for reader := tar.NewReader(bytes.NewReader(content)); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%c %o %s %s", header.Typeflag, header.Mode, header.Name, header.Linkname))
	}
	if difference := cmp.Diff([]string{"5 1777 tmp/ ", "0 755 bin/a ", "2 777 bin/b a"}, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

func TestOwnClusterIsUsedAsItIs(t *testing.T) {
	t.Setenv("KO_DOCKER_REPO", "")
	if err := withOwnCluster(t.Context(), t.TempDir(), "/my/kubeconfig", []string{"up"}); err != nil {
		t.Errorf("up: %v", err)
	}
	err := withOwnCluster(t.Context(), t.TempDir(), "/my/kubeconfig", []string{"exec", "true"})
	if err == nil || !strings.Contains(err.Error(), "KO_DOCKER_REPO") {
		t.Errorf("without a registry: %v", err)
	}
	t.Setenv("KO_DOCKER_REPO", "registry.example.com")
	if err := withOwnCluster(t.Context(), t.TempDir(), "/my/kubeconfig", []string{"exec", "true"}); err != nil {
		t.Errorf("exec: %v", err)
	}
}
