// One behaviour for each first argument.
package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	switch os.Args[1] {
	case "args":
		for _, arg := range os.Args[2:] {
			fmt.Println(arg)
		}
	case "env":
		fmt.Println(os.Getenv("GREETING"))
	case "files":
		files()
	case "clock":
		fmt.Println(time.Now().Unix())
	case "exit":
		os.Exit(7)
	case "stdin":
		io.Copy(os.Stdout, os.Stdin)
	case "panic":
		panic("no such luck")
	case "cwd":
		fmt.Print(read("in.txt"))
	}
}

func files() {
	check(os.WriteFile("/data/out.txt", []byte("written\n"), 0o644))
	fmt.Print(read("/data/out.txt"))
	entries, err := os.ReadDir("/data")
	check(err)
	for _, entry := range entries {
		fmt.Println(entry.Name())
	}
}

func read(path string) string {
	text, err := os.ReadFile(path)
	check(err)
	return string(text)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
