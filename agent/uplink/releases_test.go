package uplink

import (
	"errors"
	"testing"
	"time"
)

func TestPiecesFollowTheLine(t *testing.T) {
	for _, c := range []struct {
		name string
		size int64
		took time.Duration
		err  error
		want int64
	}{
		{"a fast line takes more", firstPiece, pieceTime / 4, nil, 2 * firstPiece},
		{"up to the limit of a call", maxPiece, 0, nil, maxPiece},
		{"a line of the right speed stays", firstPiece, pieceTime, nil, firstPiece},
		{"a slow one takes less", firstPiece, 3 * pieceTime, nil, firstPiece / 2},
		{"one that breaks too", firstPiece, 0, errors.New("cut"), firstPiece / 2},
		{"down to the least", minPiece, time.Minute, nil, minPiece},
	} {
		if got := nextPiece(c.size, c.took, c.err); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
