package redact

// matcher finds all occurrences of many patterns in one pass over a text, in time linear in
// the text whatever the patterns are (Aho and Corasick, 1975). Its memory is linear in the
// total length of the patterns.
type matcher struct {
	nodes []node
	// first are the children of the root, by their byte; 0 is none.
	first [256]int32
}

// node is a prefix of a pattern.
type node struct {
	// child is the first of its children, which sibling links; 0 is none.
	child, sibling int32
	// fallback is the node of the longest suffix of this prefix that is a prefix, too.
	fallback int32
	// depth is the length of the prefix.
	depth int32
	// match is the length of the longest pattern that ends here; 0 is none.
	match int32
	// of is the index of that pattern's origin.
	of   int32
	char byte
}

// add adds a pattern, before link is called.
func (m *matcher) add(pattern string, of int) {
	if len(m.nodes) == 0 {
		m.nodes = []node{{}} // the root
	}
	state := int32(0)
	for index := range len(pattern) {
		char := pattern[index]
		next := m.child(state, char)
		if next == 0 {
			next = int32(len(m.nodes)) //nolint:gosec // the patterns are bounded
			m.nodes = append(m.nodes, node{char: char, depth: m.nodes[state].depth + 1})
			if state == 0 {
				m.first[char] = next
			} else {
				m.nodes[next].sibling = m.nodes[state].child
			}
			m.nodes[state].child = next
		}
		state = next
	}
	if m.nodes[state].match == 0 {
		m.nodes[state].match, m.nodes[state].of = m.nodes[state].depth, int32(of) //nolint:gosec // a few
	}
}

func (m *matcher) child(state int32, char byte) int32 {
	if state == 0 {
		return m.first[char]
	}
	for next := m.nodes[state].child; next != 0; next = m.nodes[next].sibling {
		if m.nodes[next].char == char {
			return next
		}
	}
	return 0
}

// link computes the fallbacks, shorter prefixes first.
func (m *matcher) link() {
	var queue []int32
	for _, next := range m.first {
		if next != 0 {
			queue = append(queue, next)
		}
	}
	for len(queue) > 0 {
		state := queue[0]
		queue = queue[1:]
		for next := m.nodes[state].child; next != 0; next = m.nodes[next].sibling {
			m.nodes[next].fallback = m.step(m.nodes[state].fallback, m.nodes[next].char)
			if fallback := m.nodes[m.nodes[next].fallback]; m.nodes[next].match == 0 {
				m.nodes[next].match, m.nodes[next].of = fallback.match, fallback.of
			}
			queue = append(queue, next)
		}
	}
}

// step returns the node of the longest suffix of the text so far that is a prefix of a pattern.
func (m *matcher) step(state int32, char byte) int32 {
	for {
		if next := m.child(state, char); next != 0 || state == 0 {
			return next
		}
		state = m.nodes[state].fallback
	}
}
