//! Charts that were written: their words, and whether these can be read.

use engine::draw::font;

/// A word of a chart and the box around it: left, top, right, bottom, in the document's units.
pub struct Word {
    pub text: String,
    pub around: [f64; 4],
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    tag.split_once(&format!(" {name}=\""))?.1.split('"').next()
}

/// All words of a chart, in order.
pub fn words(svg: &str) -> Vec<Word> {
    let word = |element: &str| {
        let (tag, rest) = element.split_once('>').unwrap();
        let text = rest.split_once("</text>").unwrap().0.trim().to_owned();
        let number = |name: &str| attribute(tag, name).unwrap().parse::<f64>().unwrap();
        let (x, y, size) = (number("x"), number("y"), number("font-size"));
        let width = font::width(&text, size);
        let left = match attribute(tag, "text-anchor").unwrap() {
            "start" => 0.0,
            "middle" => -width / 2.0,
            _ => -width,
        };
        let baseline = match attribute(tag, "dy").unwrap() {
            "0.76em" => 0.76 * size,
            "0.5ex" => 0.27 * size,
            _ => -0.27 * size,
        };
        let (top, bottom) = (baseline - font::CAPITAL * size, baseline + 0.24 * size);
        let around = match attribute(&format!(" {tag}"), "transform") {
            // Turned to the left: to the right becomes upwards.
            Some(turn) => {
                assert!(turn.starts_with("rotate(270,"), "{turn}");
                [x + top, y - left - width, x + bottom, y - left]
            }
            None => [x + left, y + top, x + left + width, y + bottom],
        };
        Word { text, around }
    };
    svg.split("<text").skip(1).map(word).collect()
}

/// Asserts that no word of a chart leaves the picture or lies on another one; returns them all.
pub fn readable(svg: &str) -> Vec<String> {
    let size: Vec<f64> = attribute(svg, "viewBox").unwrap().split(' ').map(|v| v.parse().unwrap()).collect();
    let words = words(svg);
    for (i, Word { text, around: a }) in words.iter().enumerate() {
        assert!(a[0] >= 0.0 && a[1] >= 0.0 && a[2] <= size[2] && a[3] <= size[3], "`{text}` at {a:?} in {size:?}");
        for Word { text: other, around: b } in &words[..i] {
            let meet = a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
            assert!(!meet, "`{text}` at {a:?} on `{other}` at {b:?}");
        }
    }
    words.into_iter().map(|word| word.text).collect()
}
