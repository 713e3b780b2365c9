// A command of WASI 0.1 in Go, whose library has no function that returns the working directory.
//
//	hello-go pwd              prints the working directory
//	hello-go cat PATH         prints a file
//	hello-go realpath PATH    prints the target of the links in a path
//	hello-go write PATH TEXT  creates a file
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "hello-go:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "pwd":
		return printed(os.Getwd())
	case len(args) == 2 && args[0] == "cat":
		text, err := os.ReadFile(args[1])
		os.Stdout.Write(text)
		return err
	case len(args) == 2 && args[0] == "realpath":
		return printed(filepath.EvalSymlinks(args[1]))
	case len(args) == 3 && args[0] == "write":
		return os.WriteFile(args[1], []byte(args[2]+"\n"), 0o644)
	default:
		return fmt.Errorf("unknown request %q", args)
	}
}

func printed(text string, err error) error {
	if err == nil {
		fmt.Println(text)
	}
	return err
}
