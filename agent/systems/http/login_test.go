package httpdriver

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/protocol/policy"
)

// A wrong client secret is told by the doctor, and not by the first event.
func TestExamineLogsIn(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); r.URL.Path != "/token" || password != "right" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token": "t", "token_type": "Bearer"}`)
	}))
	defer server.Close()
	for password, want := range map[string]bool{"right": true, "wrong": false} {
		sys := system(t, server.URL)
		sys.HTTP.Auth = policy.HTTPAuth{OAuth2: &policy.OAuth2{TokenURL: server.URL + "/token", ClientID: "c", ClientSecret: "file:p"}}
		findings := open(t, sys, systems.Options{Secrets: secrets{"file:p": password}}).Examine(t.Context())
		login := findings[len(findings)-1]
		if login.Name != "login" || login.OK != want || !want && !strings.Contains(login.Seen, "Unauthorized") {
			t.Errorf("%s: %+v", password, login)
		}
		if strings.Contains(fmt.Sprint(findings), password) {
			t.Errorf("the secret is told: %+v", findings)
		}
	}
}
