// Command curl stands for the program of that name, which a small Debian does not have: it knows
// what the handbook's page on installing asks of it, and refuses the rest.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "curl:", err)
		os.Exit(22)
	}
}

func run(args []string) error {
	method, address, header, body := http.MethodGet, "", http.Header{}, ""
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "-fsS":
		case arg == "-H" && i+1 < len(args):
			i++
			name, value, _ := strings.Cut(args[i], ":")
			header.Add(name, strings.TrimSpace(value))
		case arg == "-d" && i+1 < len(args):
			i++
			method, body = http.MethodPost, args[i]
			if name, ok := strings.CutPrefix(body, "@"); ok {
				text, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				body = string(text)
			}
		case address == "" && strings.HasPrefix(arg, "http://"):
			address = arg
		default:
			return fmt.Errorf("%s is not known here", arg)
		}
	}
	request, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header = header
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	fmt.Println(strings.TrimSpace(string(text)))
	if answer.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("answered %s", answer.Status)
	}
	return nil
}
