package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Markdown writes the facts and tables of some parts, and what is known of others, as
// Markdown for a file that has headings of its own.
func Markdown(w io.Writer, parts ...Part) error {
	all, err := sections(parts)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	for _, s := range all {
		fmt.Fprintf(&out, "**%s** %s\n", plain(s.Title), plain(strings.Join(s.Facts, "; ")))
		for _, note := range s.Notes {
			fmt.Fprintf(&out, "\n%s\n", plain(note))
		}
		if s.Verdict != "" {
			fmt.Fprintf(&out, "\n```\n%s\n```\n", strings.ReplaceAll(s.Verdict, "```", "'''"))
		}
		for _, t := range s.Tables {
			if t.Title != "" {
				fmt.Fprintf(&out, "\n%s:\n", plain(t.Title))
			}
			out.WriteString("\n")
			t.markdown(&out)
		}
		out.WriteString("\n")
	}
	_, err = w.Write(append(bytes.TrimRight(out.Bytes(), "\n"), '\n'))
	return err
}

func (t *table) markdown(out *bytes.Buffer) {
	for i, row := range t.Rows {
		for _, cell := range row {
			fmt.Fprintf(out, "| %s ", plain(cell))
		}
		out.WriteString("|\n")
		if i > 0 {
			continue
		}
		for i := range row {
			if i == 0 || t.Words {
				out.WriteString("|---")
			} else {
				out.WriteString("|--:")
			}
		}
		out.WriteString("|\n")
	}
}

// plain is a text in which nothing is Markdown's, or HTML's.
var plain = strings.NewReplacer("\n", " ", "|", `\|`, "<", "&lt;", "&", "&amp;", "*", `\*`, "_", `\_`, "`", "\\`", "[", `\[`).Replace
