package systemtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// label makes a document of random bytes, which no compression makes small.
func label(t *testing.T, size int) []byte {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("document's seed %d", seed)
	source := rand.NewChaCha8([32]byte(binaryOf(seed)))
	out := make([]byte, size)
	_, _ = source.Read(out) // never fails
	return out
}

func binaryOf(n uint64) []byte {
	out := make([]byte, 32)
	copy(out, fmt.Sprint(n))
	return out
}

func (s *site) documents(method, name string, body io.Reader) (status int, header http.Header, text []byte) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.cfg.Intake.Listen+"/v1/documents"+name, body)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+shopToken)
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/pdf")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err = io.ReadAll(response.Body); err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, response.Header, text
}

// put keeps a document at a site and gives its name.
func (s *site) put(document []byte) string {
	s.t.Helper()
	sum := sha256.Sum256(document)
	want := hex.EncodeToString(sum[:])
	status, _, text := s.documents(http.MethodPost, "", bytes.NewReader(document))
	var ref struct {
		SHA256 string
		Size   int
		Type   string
	}
	if err := json.Unmarshal(text, &ref); err != nil || status != http.StatusCreated || ref.SHA256 != want || ref.Size != len(document) || ref.Type != "application/pdf" {
		s.t.Fatalf("put: %d %s, %v; want the sha256 %s", status, text, err, want)
	}
	return want
}

// sellWith offers an order that names a document.
func (s *shop) sellWith(o order, document string) {
	t := s.site.t
	t.Helper()
	s.h.Add(history.Line{Kind: history.Offered, Agent: s.site.name, Source: s.source(), ID: o.id, Key: o.key, Data: history.Hash(o.data)})
	text, err := json.Marshal(map[string]any{"specversion": "1.0", "id": o.id, "source": s.source(), "type": orderCaptured,
		"documents": document, "data": json.RawMessage(o.data)})
	if err != nil {
		t.Fatal(err)
	}
	status, answer, err := s.send("application/cloudevents+json", text)
	var receipt struct{ Position uint64 }
	if err != nil || status != http.StatusAccepted || json.Unmarshal(answer, &receipt) != nil {
		t.Fatalf("an order with a document: %d %s, %v", status, answer, err)
	}
	s.h.Add(history.Line{Kind: history.Accepted, Agent: s.site.name, Source: s.source(), ID: o.id, Key: o.key, Position: s.site.now(receipt.Position)})
}

// documentsReport is what the documents command shows.
func (s *site) documentsReport() (out agent.DocumentsReport) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.cfg.Ops.Listen+"/v1/documents", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(read(s.t, filepath.Join(s.cfg.Data, "ops.token"))))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&out); err != nil || response.StatusCode != http.StatusOK {
		s.t.Fatalf("documents of %s: %s, %v", s.name, response.Status, err)
	}
	return out
}

// awaitDocument waits until a document is at a site, byte for byte.
func (s *site) awaitDocument(sum string, want []byte) {
	s.t.Helper()
	until(s.t, s.name+" has document "+sum, func() string {
		status, header, got := s.documents(http.MethodGet, "/"+sum, nil)
		if status != http.StatusOK {
			return fmt.Sprintf("%d %s", status, got)
		}
		if !bytes.Equal(got, want) || header.Get("Etag") != `"`+sum+`"` || header.Get("Content-Type") != "application/pdf" {
			s.t.Fatalf("%d bytes of %d come back, as %v", len(got), len(want), header)
		}
		return ""
	})
}

// deliveredWith has a system look, when an order comes, whether its document is there.
func deliveredWith(t *testing.T, y *system, at *site, id, sum string) {
	y.set(func(a attempt) reply {
		if a.id != id {
			return reply{}
		}
		if _, err := os.Stat(filepath.Join(at.cfg.Data, "documents", "whole", sum[:2], sum)); err != nil {
			t.Errorf("order %s came before its document: %v", id, err)
		}
		return reply{}
	})
}

func documentsWorld(t *testing.T) *world {
	w := newWorld(t, nil, []string{"eu", "hq"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "wms", "eu")}
	})
	for _, s := range w.sites {
		s.cfg.Tuning.Documents.AskAfter, s.cfg.Tuning.Documents.Retry = 50*time.Millisecond, 50*time.Millisecond
		s.cfg.Tuning.Documents.AskAgain = time.Second
	}
	return w
}

// TestDocumentCrossesAnOutage has a label made at a site that is cut off; both agents are
// killed at steps of its way, and it arrives whole, ahead of the order that names it.
func TestDocumentCrossesAnOutage(t *testing.T) {
	const size, key = 3 << 20, "k0"
	w := documentsWorld(t)
	eu, hq := w.sites["eu"], w.sites["hq"]
	for _, s := range w.sites {
		s.startChild("", 0)
		s.awaitReady()
	}
	eu.line.Cut()

	document := label(t, size)
	sum := eu.put(document)
	eu.child.kill(t)
	eu.startChild("", 0)
	eu.awaitReady()
	deliveredWith(t, w.systemNamed("erp"), hq, "with", sum)
	w.shops["eu"].sellWith(newOrder("with", key, 1, ""), sum)
	w.awaitTaken("wms", 1) // at its own site at once
	eu.awaitStatus("counts orders, not pieces", func(s agent.Status) string {
		if s.Queue.Outgoing != 1 || s.Queue.Accepted != 1 {
			return fmt.Sprintf("%d to be sent, %d accepted; want 1 and 1", s.Queue.Outgoing, s.Queue.Accepted)
		}
		return ""
	})
	if r := eu.documentsReport(); r.Count != 1 || len(r.OnTheirWay) != 1 || r.OnTheirWay[0].SHA256 != sum || len(r.OnTheirWay[0].To) != 1 || r.OnTheirWay[0].To[0] != "hq" {
		t.Errorf("documents %+v", r)
	}
	for _, s := range w.sites {
		s.child.kill(t)
	}
	eu.startChild("", 0)
	eu.awaitReady()
	eu.line.Restore()

	// The destination falls in the middle of the pieces, and before and after the whole has its place.
	for _, at := range []struct {
		step string
		call int64
	}{{"chunk-stored", 3}, {"document-written", 1}, {"document-stored", 1}} {
		hq.startChild(at.step, at.call)
		if !comes(hq.child.ended) {
			t.Fatalf("hq never came to %s", at.step)
		}
	}
	hq.startChild("", 0)
	hq.awaitReady()
	w.awaitTaken("erp", 1)
	hq.awaitDocument(sum, document)
	until(t, "nothing is on its way any more", func() string {
		if r := eu.documentsReport(); len(r.OnTheirWay) > 0 {
			return fmt.Sprintf("%+v", r.OnTheirWay)
		}
		return ""
	})
	hq.awaitStatus("counts orders, not pieces", func(s agent.Status) string {
		if s.Queue.Received != 1 || s.Documents.Count != 1 || s.Documents.Arriving != 0 {
			return fmt.Sprintf("%d received, %+v", s.Queue.Received, s.Documents)
		}
		return ""
	})
	w.settle(w.explained(6))
}

// TestDamagedDocument has the file of a document damaged where it was sent to: that is told,
// and it is sent again; an order that names it later finds it. Where it was put, it is told.
func TestDamagedDocument(t *testing.T) {
	w := documentsWorld(t)
	eu, hq := w.sites["eu"], w.sites["hq"]
	for _, s := range w.sites {
		s.start()
	}
	document := label(t, 400<<10)
	sum := eu.put(document)
	w.shops["eu"].sellWith(newOrder("first", "k", 1, ""), sum)
	w.awaitTaken("erp", 1)
	hq.awaitDocument(sum, document)

	for _, s := range []*site{hq, eu} {
		s.spoil(sum)
		if status, _, text := s.documents(http.MethodGet, "/"+sum, nil); status != http.StatusServiceUnavailable || !strings.Contains(string(text), "document-damaged") {
			t.Fatalf("a damaged document at %s: %d %s", s.name, status, text)
		}
		w.plane.awaitException(s.name, sum, "is damaged")
		if s == hq {
			s.awaitDocument(sum, document)
		}
	}
	// At its source it is missing now, so no order may name it until it is put again.
	text, err := json.Marshal(map[string]any{"specversion": "1.0", "id": "early", "source": "/shops/eu", "type": orderCaptured,
		"documents": sum, "data": map[string]string{"orderId": "k"}})
	if err != nil {
		t.Fatal(err)
	}
	if status, answer, err := w.shops["eu"].send("application/cloudevents+json", text); err != nil || status != http.StatusUnprocessableEntity || !strings.Contains(string(answer), "unknown-document") {
		t.Errorf("an order that names what is not here: %d %s, %v", status, answer, err)
	}
	// What the destination lacks when an order comes, it asks for; a second order does not carry it.
	if again := eu.put(document); again != sum {
		t.Errorf("put again as %s", again)
	}
	if err := os.Remove(filepath.Join(hq.cfg.Data, "documents", "whole", sum[:2], sum)); err != nil {
		t.Fatal(err)
	}
	hq.stop()
	hq.start()
	deliveredWith(t, w.systemNamed("erp"), hq, "second", sum)
	w.shops["eu"].sellWith(newOrder("second", "k", 2, ""), sum)
	w.awaitTaken("erp", 2)
	hq.awaitDocument(sum, document)
	w.settle(0)
}

// spoil changes one byte of a document's file.
func (s *site) spoil(sum string) {
	s.t.Helper()
	path := filepath.Join(s.cfg.Data, "documents", "whole", sum[:2], sum)
	text := []byte(read(s.t, path))
	text[len(text)/2] ^= 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
}
