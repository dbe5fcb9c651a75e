package handbook

import (
	"strings"
	"testing"
)

func TestTopicsCanBeAskedFor(t *testing.T) {
	topics, seen := Topics(), map[string]bool{}
	if len(topics) < len(Runbooks())+3 {
		t.Fatalf("only %d topics", len(topics))
	}
	for _, topic := range topics {
		if seen[topic.Name] {
			t.Errorf("two topics are named %s", topic.Name)
		}
		seen[topic.Name] = true
		if topic.Name != strings.ToLower(topic.Name) || strings.ContainsAny(topic.Name, " _") {
			t.Errorf("%q is not a name to type: small letters and dashes", topic.Name)
		}
		if !strings.HasPrefix(topic.Text, "# ") || topic.Title == "" || len(topic.Title) > 60 {
			t.Errorf("%s: the first line is its title in at most 60 characters, after \"# \": %q", topic.Name, topic.Title)
		}
	}
}
