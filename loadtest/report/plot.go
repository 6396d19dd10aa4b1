package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"regexp"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

type point struct{ x, y float64 }

// series is one line of a plot; without a name it needs no key.
type series struct {
	name   string
	points []point
}

// Plots are drawn as wide as a phone is, so that their letters are as big as the
// page's; where there is room, several are beside one another.
const (
	plotWidth  = 340 * vg.Length(0.75) // CSS pixels
	plotHeight = 210 * vg.Length(0.75)
	rowHeight  = 26 * vg.Length(0.75)
)

// The page decides what colours are, by day and by night: these only tell them apart,
// until they are replaced by the page's names for them.
var (
	ink   = color.RGBA{R: 1, G: 2, B: 3, A: 255}
	faint = color.RGBA{R: 2, G: 3, B: 4, A: 255}
)

const lineColours = 6

func lineColour(i int) color.RGBA {
	return color.RGBA{R: uint8(10 + i%lineColours), G: 20, B: 30, A: 255}
}

// dashes tell lines apart where colours can't: on paper, and to some eyes.
func dashes(i int) []vg.Length {
	return [][]vg.Length{nil, {5, 2}, {1.5, 1.5}}[(i+i/lineColours)%3]
}

// key is what the page says of a line; the library's legend lies upon the lines.
type key struct {
	Name   string
	Line   int // from 1
	Dashes string
}

func keyOf(name string, i int) key {
	k := key{Name: name, Line: 1 + i%lineColours}
	for _, d := range dashes(i) {
		k.Dashes += fmt.Sprint(float64(d), " ")
	}
	return k
}

var (
	sizes = regexp.MustCompile(`<svg width="[^"]*" height="[^"]*"`)
	fonts = regexp.MustCompile(`font-family:[^;"]*;font-variant:[^;"]*;font-weight:[^;"]*;font-style:[^;"]*;`)
)

// svg draws a plot.
func svg(p *plot.Plot, title string, width, height vg.Length, keys ...key) (plotted, error) {
	c := vgsvg.New(width, height)
	p.Draw(draw.New(c))
	var out bytes.Buffer
	if _, err := c.WriteTo(&out); err != nil {
		return plotted{}, fmt.Errorf("draw %s: %w", title, err)
	}
	text := out.String()
	text = text[strings.Index(text, "<svg"):]
	text = sizes.ReplaceAllString(text, fmt.Sprintf(`<svg role="img" aria-label="%s"`, template.HTMLEscapeString(title)))
	text = fonts.ReplaceAllString(text, "")
	names := []string{"#010203", "var(--ink)", "#020304", "var(--faint)"}
	for i := range lineColours {
		names = append(names, fmt.Sprintf("#%02X141E", 10+i), fmt.Sprintf("var(--line%d)", i+1))
	}
	return plotted{Title: title, Keys: keys, SVG: template.HTML(strings.NewReplacer(names...).Replace(text))}, nil
}

// blank is a plot with nothing in it.
func blank() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.LineStyle.Color, a.Tick.Color, a.Tick.Label.Color, a.Label.TextStyle.Color = faint, faint, ink, ink
		// The page has letters as wide as these.
		a.Tick.Label.Font.Variant, a.Label.TextStyle.Font.Variant = "Sans", "Sans"
		a.Tick.Label.Font.Size, a.Label.TextStyle.Font.Size, a.Tick.Length = 8, 8, 3
		a.Tick.Marker = ticks{plot.DefaultTicks{}}
	}
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color, grid.Horizontal.Width = faint, 0.3
	p.Add(grid)
	return p
}

// ticks writes the numbers of others shortly, as in 20k.
type ticks struct{ plot.Ticker }

func (t ticks) Ticks(least, most float64) []plot.Tick {
	all := t.Ticker.Ticks(least, most)
	for i := range all {
		if all[i].Label != "" {
			all[i].Label = short(all[i].Value)
		}
	}
	return all
}

func short(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 4, 64) + "M"
	case a >= 1e4:
		return strconv.FormatFloat(v/1e3, 'g', 4, 64) + "k"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// curves puts lines into a plot, and says which; nil: there are none. In a logarithmic
// one, what isn't more than 0 has no place.
func curves(p *plot.Plot, logarithmic bool, all []series) (keys []key, err error) {
	least, most := math.Inf(1), 0.0
	for i, s := range all {
		var xys plotter.XYs
		for _, at := range s.points {
			if !logarithmic || at.y > 0 {
				xys = append(xys, plotter.XY{X: at.x, Y: at.y})
				least, most = min(least, at.y), max(most, at.y)
			}
		}
		if len(xys) == 0 {
			continue
		}
		line, dot, err := plotter.NewLinePoints(xys)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width, line.Dashes = lineColour(i), 1.2, dashes(i)
		dot.Color, dot.Shape, dot.Radius = lineColour(i), draw.CircleGlyph{}, 1.2
		p.Add(line)
		if len(xys) < 40 { // else they hide the line
			p.Add(dot)
		}
		keys = append(keys, keyOf(s.name, i))
	}
	if len(keys) == 0 {
		return nil, nil
	}
	if !logarithmic {
		p.Y.Min, p.Y.Max = 0, max(most, 1)*1.05
		return keys, nil
	}
	// From one power of ten to another: else there may be no number at the axis.
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, ticks{plot.LogTicks{Prec: -1}}
	p.Y.Min, p.Y.Max = math.Pow(10, math.Floor(math.Log10(least))), math.Pow(10, math.Ceil(math.Log10(most*1.01)))
	return keys, nil
}

// lines draws figures over time.
func lines(title, unit string, logarithmic bool, all ...series) (plotted, bool, error) {
	p := blank()
	p.X.Label.Text = unit
	keys, err := curves(p, logarithmic, all)
	if err != nil || keys == nil {
		return plotted{}, false, err
	}
	p.X.Min, p.X.Max = 0, p.X.Max*1.03 // room for half a number at the end of the axis
	out, err := svg(p, title, plotWidth, plotHeight, keys...)
	return out, true, err
}

// steps draws figures over names.
func steps(title string, names []string, all []series) (plotted, bool, error) {
	p := blank()
	keys, err := curves(p, true, all)
	if err != nil || keys == nil {
		return plotted{}, false, err
	}
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.25, float64(len(names))-0.75
	out, err := svg(p, title, plotWidth, plotHeight, keys...)
	return out, true, err
}

// dots draws figures of each name, all of them, on a line of its own.
func dots(title string, names []string, figures [][]float64) (plotted, error) {
	p := blank()
	var xys plotter.XYs
	most := 1.0
	for i, of := range figures {
		y := float64(len(figures) - 1 - i) // the first is at the top
		for _, v := range of {
			xys, most = append(xys, plotter.XY{X: v, Y: y}), max(most, v)
		}
	}
	dot, err := plotter.NewScatter(xys)
	if err != nil {
		return plotted{}, err
	}
	dot.Color, dot.Shape, dot.Radius = lineColour(0), draw.CircleGlyph{}, 2.5
	floor, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.5}, {X: 1, Y: float64(len(figures)) - 0.5}})
	if err != nil {
		return plotted{}, err
	}
	floor.Color, floor.Width, floor.Dashes = lineColour(1), 1, dashes(1)
	p.Add(dot, floor)
	upwards := make([]string, len(names))
	for i, name := range names {
		upwards[len(names)-1-i] = name
	}
	p.NominalY(upwards...)
	p.Y.Min, p.Y.Max, p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5, 0, most*1.08
	return svg(p, title, plotWidth, vg.Length(len(names)+1)*rowHeight, keyOf("sluice", 0), keyOf("the floor", 1))
}

// number writes a figure with three digits that count; a dash: there is none.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100:
		return count(int64(math.Round(v)))
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// dash is number, where 0 says that it isn't measured.
func dash(v float64) string {
	if v == 0 {
		return "–"
	}
	return number(v)
}

// count writes a whole number with its thousands apart.
func count(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
