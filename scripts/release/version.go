package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// described is what git makes of a version: a tag, how many commits ago, and which one it is.
var described = regexp.MustCompile(`^v?(\d+)\.(\d+)(?:\.(\d+))?(?:-([a-z]+\.?\d*))?(?:-(\d+)-g([0-9a-f]+))?(-dirty)?$`)

// days that Windows versions are counted from, where there is no tag.
var firstDay = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// packageVersion is a version as deb and rpm order it: 1.2.0~rc1 before 1.2.0 before 1.2.0+5.gabc.
// A commit without a tag before it is older than any that has one, and ordered by its time.
func packageVersion(version string, epoch time.Time) string {
	m := described.FindStringSubmatch(version)
	if m == nil {
		return "0.0.0+" + epoch.Format("20060102150405") + "." + plain(version)
	}
	out := fmt.Sprintf("%s.%s.%s", m[1], m[2], orZero(m[3]))
	if m[4] != "" {
		out += "~" + m[4]
	}
	if m[5] != "" {
		out += "+" + m[5] + ".g" + m[6]
	}
	if m[7] != "" {
		out += "+dirty"
	}
	return out
}

// windowsVersion is three numbers, the only ones that the installer compares. Two commits after
// the same tag are equal to it, and it puts one in place of the other.
func windowsVersion(version string, epoch time.Time) (string, error) {
	m := described.FindStringSubmatch(version)
	if m == nil {
		hours := int(epoch.Sub(firstDay).Hours())
		return fmt.Sprintf("0.0.%d", min(max(hours, 0), 65535)), nil
	}
	for _, part := range []struct {
		text string
		most int
	}{{m[1], 255}, {m[2], 255}, {orZero(m[3]), 65535}} {
		if n, err := strconv.Atoi(part.text); err != nil || n > part.most {
			return "", fmt.Errorf("version %s: Windows Installer takes at most 255.255.65535", version)
		}
	}
	return fmt.Sprintf("%s.%s.%s", m[1], m[2], orZero(m[3])), nil
}

func orZero(text string) string {
	if text == "" {
		return "0"
	}
	return text
}

// plain keeps what may stand in a package's version.
func plain(text string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			return c
		}
		return '.'
	}, text)
}
