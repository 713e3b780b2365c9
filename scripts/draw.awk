# Draws the picture that a description such as docs/picture.txt describes, as SVG:
#
#   awk -f scripts/draw.awk docs/picture.txt > docs/picture.svg

BEGIN {
    fill["node"] = "#eceff4"; fill["ours"] = "#d7e3fc"; fill["guest"] = "#e3d4fa"; fill["program"] = "#d8f0dc"
}

/^#/ || NF == 0 { next }

{
    lines = split($0, part, / *\| */)
    split(part[1], word, / +/)
}

word[1] == "size" {
    print "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " word[2] " " word[3] "\" width=\"" word[2] \
        "\" height=\"" word[3] "\" font-family=\"sans-serif\" font-size=\"14\">"
    print "<defs><marker id=\"head\" markerWidth=\"8\" markerHeight=\"8\" refX=\"7\" refY=\"4\" orient=\"auto\">" \
        "<path d=\"M0 0L8 4L0 8z\" fill=\"#4c566a\"/></marker></defs>"
    rectangle(0, 0, word[2], word[3], "#ffffff", "none")
    next
}

word[1] == "frame" {
    rectangle(word[2], word[3], word[4], word[5], "#fafbfd", "#8a93a6")
    text(word[2] + 10, word[3] + 18, "start", 13, part[2])
    next
}

word[1] == "box" {
    name = word[2]
    x[name] = word[3]; y[name] = word[4]; width[name] = word[5]; height[name] = word[6]
    if (!(word[7] in fill)) fail("no kind " word[7])
    rectangle(x[name], y[name], width[name], height[name], fill[word[7]], "#4c566a")
    middle = x[name] + int(width[name] / 2)
    top = y[name] + int(height[name] / 2) + (lines > 2 ? -3 : 5)
    text(middle, top, "middle", 14, part[2])
    if (lines > 2) text(middle, top + 17, "middle", 12, part[3])
    next
}

word[1] == "arrow" {
    from = word[2]; to = word[3]
    if (!(from in x) || !(to in x)) fail("no such box")
    if (x[from] + width[from] <= x[to]) {
        line(x[from] + width[from], side(from), x[to], side(to))
    } else if (x[to] + width[to] <= x[from]) {
        line(x[from], side(from), x[to] + width[to], side(to))
    } else {
        line(x[from] + int(width[from] / 2), y[from] + height[from], x[to] + int(width[to] / 2), y[to])
    }
    next
}

{ fail("no such word " word[1]) }

END { if (!failed) print "</svg>" }

function side(name) { return y[name] + int(height[name] / 2) }

function rectangle(x, y, width, height, fill, stroke) {
    print "<rect x=\"" x "\" y=\"" y "\" width=\"" width "\" height=\"" height "\" rx=\"6\" fill=\"" fill \
        "\" stroke=\"" stroke "\"/>"
}

function text(x, y, anchor, size, content) {
    print "<text x=\"" x "\" y=\"" y "\" text-anchor=\"" anchor "\" font-size=\"" size "\" fill=\"#2e3440\">" content "</text>"
}

function line(x1, y1, x2, y2) {
    print "<path d=\"M" x1 " " y1 "L" x2 " " y2 "\" stroke=\"#4c566a\" fill=\"none\" marker-end=\"url(#head)\"/>"
    if (part[2] == "") return
    if (x1 == x2) text(x1 + 8, int((y1 + y2) / 2) + 4, "start", 12, part[2])
    else text(int((x1 + x2) / 2), int((y1 + y2) / 2) - 6, "middle", 12, part[2])
}

function fail(reason) {
    print FILENAME ":" FNR ": " reason > "/dev/stderr"
    failed = 1
    exit 1
}
