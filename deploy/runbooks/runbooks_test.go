package runbooks

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

var link = regexp.MustCompile(`\]\(([a-z-]+)\.md\)`)

func TestEveryRunbookHasATitleAndLinksThatLead(t *testing.T) {
	topics := Topics()
	if len(topics) < 15 {
		t.Fatalf("only %v", topics)
	}
	for _, topic := range topics {
		text, ok := Text(topic)
		if !ok || Title(topic) == "" || !strings.HasPrefix(text, "# ") {
			t.Errorf("%s has no title", topic)
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(topics, m[1]) {
				t.Errorf("%s leads to %s.md, which is not there", topic, m[1])
			}
		}
	}
	if _, ok := Text("none"); ok {
		t.Error("there is a text for none")
	}
}
