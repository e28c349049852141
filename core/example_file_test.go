package core_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"kloop/core"
)

// Goroutines read and write files on the background loop of the process.
func ExampleOpenFile() {
	ctx := context.Background()
	name := filepath.Join(os.TempDir(), fmt.Sprintf("kloop-example-%d", os.Getpid()))
	f, err := core.OpenFile(ctx, name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(name)
	if _, err := io.WriteString(f, "first line\nsecond line\n"); err != nil {
		log.Fatal(err)
	}
	word := make([]byte, 6)
	if _, err := f.ReadAtContext(ctx, word, 11); err != nil { // any number of these at a time
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	all, err := core.ReadFile(ctx, name, 1<<20)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, %d bytes\n", word, len(all))
	// Output: second, 23 bytes
}
