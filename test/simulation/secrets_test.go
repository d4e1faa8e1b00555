package simulation

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/test/embedded"
)

// Some tasks have this key of a Secret as an environment variable.
const secretName, secretKey = "credentials", "TOKEN"

// secretValue is a value of the Secret. Every form of the value except base64 contains secretCore.
func secretValue(version int) string {
	return fmt.Sprintf(`p@ss"w\rd/ <%s>&%03d`, secretCore, version)
}

const secretCore = "Corr3ctHorseBattery"

// makeSecret creates the Secret with a new value, or changes its value.
func (w *world) makeSecret() {
	w.mutex.Lock()
	value := secretValue(w.secretVersion)
	w.secretVersion++
	w.mutex.Unlock()
	for _, namespace := range []string{"job-executor-jobs", loadNamespace} {
		client := w.cluster.Client(nil).CoreV1().Secrets(namespace)
		secret, err := client.Get(w.ctx, secretName, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: secretName, Labels: embedded.AllowedLabels()}}
			secret.Data = map[string][]byte{secretKey: []byte(value)}
			_, err = client.Create(w.ctx, secret, metav1.CreateOptions{})
		} else if err == nil {
			secret.Data[secretKey] = []byte(value)
			_, err = client.Update(w.ctx, secret, metav1.UpdateOptions{})
		}
		if err != nil && w.ctx.Err() == nil {
			w.violate("the Secret cannot be changed: %v", err)
		}
	}
}

// changeSecret rotates the Secret, or deletes it for a while.
func (w *world) changeSecret(random *rand.Rand) {
	if random.Float64() < 0.5 { //nolint:mnd // half of them
		w.happen("a Secret is rotated")
		w.makeSecret()
		return
	}
	w.happen("a Secret is deleted")
	for _, namespace := range []string{"job-executor-jobs", loadNamespace} {
		_ = w.cluster.Client(nil).CoreV1().Secrets(namespace).Delete(w.ctx, secretName, metav1.DeleteOptions{}) // unless it is gone
	}
}

// printSecret writes a value to a container's log in one of several forms, and returns the form.
func printSecret(random *rand.Rand, value string, container embedded.Container) string {
	quoted, _ := json.Marshal(value) // text always encodes
	again, _ := json.Marshal(string(quoted))
	half := len(value) / 2
	forms := []struct{ name, text string }{
		{"itself", value},
		{"base64", base64.StdEncoding.EncodeToString([]byte("user:" + value))},
		{"base64 of URLs", base64.RawURLEncoding.EncodeToString([]byte(value))},
		{"part of a URL", "https://user:" + url.QueryEscape(value) + "@host/"},
		{"JSON", string(quoted)},
		{"JSON in JSON", string(again)},
		{"in colour", value[:half] + "\x1b[31m" + value[half:]},
		{"a progress bar", value[:half] + "\r" + value},
	}
	form := forms[random.IntN(len(forms))]
	_, _ = fmt.Fprintf(container.Output, "the token is %s\n", form.text)
	return "a Secret's value in a log: " + form.name
}

// secretReport is a report with a value inside.
func secretReport(random *rand.Rand, value string) report {
	quoted, _ := json.Marshal(value) // text always encodes
	reports := []report{
		{"a Secret's value as a message", `{"message":` + string(quoted) + `}`, keptn.ResultPass},
		{"a Secret's value in data", `{"result":"warning","login":{"token":` + string(quoted) + `}}`, keptn.ResultWarning},
		{"a Secret's value as a name", `{"login":{` + string(quoted) + `:1}}`, keptn.ResultPass},
		{"a Secret's value as text", "logged in with " + value, keptn.ResultPass},
		{"a Secret's value as the result", `{"result":` + string(quoted) + `}`, keptn.ResultFail},
	}
	return reports[random.IntN(len(reports))]
}

// searchLeaks looks for values of the Secret, in any form, in content that has left the watcher.
func (w *world) searchLeaks(where string, content []byte) {
	for _, core := range secretCores {
		if at := bytes.Index(content, []byte(core)); at >= 0 {
			const around = 50
			w.violate("%s has the value of a Secret: %s", where, content[max(0, at-around):min(len(content), at+around)])
			return
		}
	}
}

// secretCores are the core and its base64 forms at any offset.
var secretCores = func() []string {
	cores := []string{secretCore}
	for before := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString(append(make([]byte, before), secretCore...))
		cores = append(cores, encoded[4:len(encoded)-4])
	}
	return cores
}()

// leakWriter searches the lines of a log for values of the Secret, and remembers them.
type leakWriter struct{ world *world }

func (w leakWriter) Write(content []byte) (int, error) {
	w.world.recent.add(strings.TrimSpace(string(content)))
	w.world.searchLeaks("a log line", content)
	return len(content), nil
}

// isEndless reports whether the log of a pod never ends.
func (w *world) isEndless(pod string) bool {
	if w.planned != nil || !w.faulty() {
		return false
	}
	endless := rand.New(rand.NewPCG(w.chance.seed, hashed("end of the log of "+pod))).Float64() < 0.02 //nolint:mnd // a few
	if endless {
		w.happen("a log that never ends")
	}
	return endless
}
