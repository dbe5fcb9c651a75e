package reference

import (
	"strings"
	"testing"

	"github.com/crossdock/crossdock/deploy/handbook"
)

// Topics holds each topic of a program to what a person can type and a list can show.
func Topics(t *testing.T, topics []handbook.Topic) {
	t.Helper()
	seen := map[string]bool{}
	if len(topics) < len(handbook.Runbooks())+5 {
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
