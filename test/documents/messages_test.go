package documents

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

const root = "../.."

// TROUBLESHOOTING.md must explain every message for a user: warnings and errors in logs, messages in Keptn, and
// mistakes in a file.
func TestEveryMessageIsExplained(t *testing.T) {
	page, err := os.ReadFile(root + "/config/TROUBLESHOOTING.md")
	if err != nil {
		t.Fatal(err)
	}
	found := messages(t)
	const least = 150
	if len(found) < least {
		t.Fatalf("only %d messages were found", len(found))
	}
	for _, message := range found {
		if !isExplained(string(page), message) {
			t.Errorf("TROUBLESHOOTING.md does not explain %q", message)
		}
	}
}

// verb matches the verbs of fmt.
var verb = regexp.MustCompile(`%[a-z]`)

// isExplained reports whether a line of the page has the fixed parts of a message in their order.
func isExplained(page, message string) bool {
	for line := range strings.Lines(page) {
		rest, found := line, true
		for _, part := range verb.Split(message, -1) {
			if part = strings.Trim(part, " \n"); part == "" {
				continue
			}
			if _, rest, found = strings.Cut(rest, part); !found {
				break
			}
		}
		if found {
			return true
		}
	}
	return false
}

func TestExplanationsAreFoundByTheirFixedParts(t *testing.T) {
	const page = "| The pod did not start within … s. | cause | remedy |\n"
	for message, want := range map[string]bool{
		"The pod did not start within %s. ": true, "The pod did not start": true,
		"The pod did not end within %s": false, "within %s start": false,
	} {
		if got := isExplained(page, message); got != want {
			t.Errorf("%q: %t", message, got)
		}
	}
}

// messages returns the texts in the code that users see.
func messages(t *testing.T) []string {
	t.Helper()
	var found []string
	files := token.NewFileSet()
	err := filepath.WalkDir(root+"/functions", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		inspect := inspector{toUser: isForUsers(path), isSyntax: filepath.Base(path) == "syntax.go", found: &found}
		ast.Inspect(file, inspect.visit)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// isForUsers reports whether the sentences of a file become messages of Keptn.
func isForUsers(path string) bool {
	folder := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), root+"/functions/")
	return slices.Contains([]string{
		"watcher", "watcher/result", "watcher/redact", "executor", "executor/plan", "run", "bridge/deadletter", "bridge/intake", "bridge/report",
	}, folder)
}

type inspector struct {
	// toUser is true if sentences become messages, and isSyntax in the file with the parser's messages.
	toUser, isSyntax bool

	found *[]string
}

// explained are functions with a message as the format, by the argument's position.
var explained = map[string]int{
	"WarnContext": 1, "ErrorContext": 1, "Warn": 0, "Error": 0, "wrong": 1, "warn": 1, "Mistakef": 0, "mistake": 0,
}

func (i inspector) visit(node ast.Node) bool {
	switch node := node.(type) {
	case *ast.ImportSpec, *ast.Field:
		return false
	case *ast.CallExpr:
		name := ""
		switch called := node.Fun.(type) {
		case *ast.SelectorExpr:
			name = called.Sel.Name
		case *ast.Ident:
			name = called.Name
		}
		if name == "InfoContext" || name == "Info" {
			return false
		}
		if position, ok := explained[name]; ok && len(node.Args) > position {
			i.add(node.Args[position])
		}
	case *ast.CompositeLit:
		// The last column of syntaxWords is the message.
		if columns := 3; i.isSyntax && len(node.Elts) == columns {
			i.add(node.Elts[columns-1])
		}
	case *ast.KeyValueExpr:
		if key, ok := node.Key.(*ast.Ident); ok && key.Name == "Text" {
			i.add(node.Value)
		}
	case *ast.BasicLit:
		// A sentence begins with a capital letter and has spaces.
		if text, ok := textOf(node); ok && i.toUser && unicode.IsUpper([]rune(text + " ")[0]) && strings.Count(text, " ") > 1 {
			*i.found = append(*i.found, text)
		}
	}
	return true
}

func (i inspector) add(expression ast.Expr) {
	if text, ok := textOf(expression); ok {
		*i.found = append(*i.found, text)
	}
}

// textOf returns the text of a literal, or of concatenated literals.
func textOf(expression ast.Expr) (string, bool) {
	switch expression := expression.(type) {
	case *ast.BasicLit:
		if expression.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(expression.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		left, leftOK := textOf(expression.X)
		right, rightOK := textOf(expression.Y)
		return left + right, leftOK && rightOK
	default:
		return "", false
	}
}
