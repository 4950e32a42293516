//! A chart of lines, as SVG. It needs no font and no style of its own: a browser, and the
//! page of a code host, show it as it is.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// Where the lines are drawn; the names are right of it.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 570.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 360.0;

/// Colours that are told apart also by who sees no difference of red and green.
const COLOURS: [&str; 8] = [
    "#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f",
];

/// A chart.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
}

/// One line, in the order of its points.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// What an axis shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    label: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// From 0.
    Linear,
    Logarithmic,
    /// A mark for each whole number.
    Counted,
}

impl Axis {
    pub(super) fn linear(label: &'static str) -> Self {
        let kind = Kind::Linear;
        Self { label, kind }
    }

    /// For small numbers of things.
    pub(super) fn counted(label: &'static str) -> Self {
        let kind = Kind::Counted;
        Self { label, kind }
    }

    /// For values over 0.
    pub(super) fn logarithmic(label: &'static str) -> Self {
        let kind = Kind::Logarithmic;
        Self { label, kind }
    }

    /// The scale on which all the values have room.
    fn scale(self, values: impl Iterator<Item = f64> + Clone) -> Scale {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(f64::NEG_INFINITY, f64::max);
        let marks = match self.kind {
            Kind::Linear => linear_marks(most),
            Kind::Logarithmic => logarithmic_marks(least, most),
            Kind::Counted => counted_marks(least, most),
        };
        Scale {
            first: self.place(marks.first().copied().unwrap_or(least).min(least)),
            last: self.place(marks.last().copied().unwrap_or(most).max(most)),
            marks,
            axis: self,
        }
    }

    fn place(self, value: f64) -> f64 {
        if self.kind == Kind::Logarithmic {
            value.log10()
        } else {
            value
        }
    }
}

/// From values to places.
#[derive(Debug)]
struct Scale {
    axis: Axis,
    first: f64,
    last: f64,
    marks: Vec<f64>,
}

impl Scale {
    /// Where a value is, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let length = self.last - self.first;
        if length > 0.0 {
            (self.axis.place(value) - self.first) / length
        } else {
            0.5
        }
    }
}

/// 1, 2 and 5 of each power of ten, or the powers alone if these are many.
fn logarithmic_marks(least: f64, most: f64) -> Vec<f64> {
    if least > most {
        return Vec::new();
    }
    let powers = least.log10().floor()..=most.log10().ceil();
    let factors: &[f64] = if powers.end() - powers.start() > 2.0 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let mut all = Vec::new();
    let mut power = *powers.start();
    while power <= *powers.end() {
        all.extend(factors.iter().map(|factor| factor * 10_f64.powf(power)));
        power += 1.0;
    }
    // The last mark that is not over the least, and the first that is not under the most.
    let from = all.iter().rposition(|&mark| mark <= least).unwrap_or(0);
    let to = all.iter().position(|&mark| mark >= most);
    all.drain(from..=to.unwrap_or(all.len().saturating_sub(1)))
        .collect()
}

/// From 0, about five steps.
fn linear_marks(most: f64) -> Vec<f64> {
    if most <= 0.0 {
        return Vec::new();
    }
    let rough = most / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|factor| factor * power >= rough);
    let step = factor.unwrap_or(10.0) * power;
    let mut marks = vec![0.0];
    while marks.last().is_some_and(|&mark| mark < most) && marks.len() < 12 {
        let next = marks.last().copied().unwrap_or(0.0) + step;
        marks.push(next);
    }
    marks
}

/// The whole numbers from the least to the most.
fn counted_marks(least: f64, most: f64) -> Vec<f64> {
    let marks = std::iter::successors(Some(least.floor()), |mark| Some(mark + 1.0));
    marks.take_while(|&mark| mark <= most).take(100).collect()
}

impl Chart {
    /// The chart as a document of its own.
    pub(super) fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = self.x.scale(points().map(|point| point.0));
        let y = self.y.scale(points().map(|point| point.1));
        let across = |value| LEFT + x.share(value) * (RIGHT - LEFT);
        let down = |value| BOTTOM - y.share(value) * (BOTTOM - TOP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
        );
        text(&mut svg, LEFT, TOP - 18.0, "start", self.title);
        for &mark in &x.marks {
            let place = across(mark);
            line(&mut svg, (place, TOP), (place, BOTTOM));
            text(&mut svg, place, BOTTOM + 16.0, "middle", &number(mark));
        }
        for &mark in &y.marks {
            let place = down(mark);
            line(&mut svg, (LEFT, place), (RIGHT, place));
            text(&mut svg, LEFT - 6.0, place + 4.0, "end", &number(mark));
        }
        let middle = f64::midpoint(LEFT, RIGHT);
        text(&mut svg, middle, BOTTOM + 36.0, "middle", self.x.label);
        let _ = writeln!(
            svg,
            "<text transform=\"translate(16 {:.0}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(TOP, BOTTOM),
            escape(self.y.label)
        );
        for (position, (series, colour)) in self.series.iter().zip(COLOURS).enumerate() {
            let mut path = String::new();
            for &(at_x, at_y) in &series.points {
                let (cx, cy) = (across(at_x), down(at_y));
                let _ = write!(path, "{cx:.1},{cy:.1} ");
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\" fill=\"{colour}\"/>"
                );
            }
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.trim_end()
            );
            let height = TOP + 10.0 + 20.0 * f64::from(u32::try_from(position).unwrap_or(0));
            let _ = writeln!(
                svg,
                "<rect x=\"{:.0}\" y=\"{:.0}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>",
                RIGHT + 14.0,
                height - 6.0
            );
            text(&mut svg, RIGHT + 34.0, height, "start", &series.name);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#dddddd\"/>"
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = escape(text);
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

/// A mark's number, without zeros that say nothing.
fn number(mark: f64) -> String {
    if mark >= 10_000.0 {
        return format!("{} k", (mark / 1e3).round());
    }
    let text = format!("{mark:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::{
        Axis, Chart, HEIGHT, Series, WIDTH, counted_marks, linear_marks, logarithmic_marks, number,
    };

    fn chart(x: Axis, y: Axis, lines: &[(&str, &[(f64, f64)])]) -> Chart {
        let series = lines.iter().map(|(name, points)| Series {
            name: (*name).to_owned(),
            points: points.to_vec(),
        });
        Chart {
            title: "a < b & \"c\"",
            x,
            y,
            series: series.collect(),
        }
    }

    #[test]
    fn a_chart_is_a_document_with_all_its_points_inside() {
        let (log, line) = (Axis::logarithmic("x"), Axis::linear("y"));
        let points: &[_] = &[(1.0, 7.5), (10.0, 8.0), (10_000.0, 12.25)];
        let counted = Axis::counted("x");
        for (x, y) in [(log, log), (log, line), (line, line), (counted, line)] {
            let svg = chart(x, y, &[("a<b>", points), ("c&d", &[(3.0, 0.5)])]).svg();
            let document = roxmltree::Document::parse(&svg).unwrap();
            let root = document.root_element();
            assert_eq!(root.tag_name().name(), "svg");
            assert_eq!(
                root.tag_name().namespace(),
                Some("http://www.w3.org/2000/svg")
            );
            let named = |name| move |node: &roxmltree::Node<'_, '_>| node.has_tag_name(name);
            let circles: Vec<_> = root.descendants().filter(named("circle")).collect();
            assert_eq!(circles.len(), 4);
            for circle in circles {
                let place = |name| circle.attribute(name).unwrap().parse::<f64>().unwrap();
                assert!((0.0..=WIDTH).contains(&place("cx")), "{svg}");
                assert!((0.0..=HEIGHT).contains(&place("cy")), "{svg}");
            }
            assert_eq!(root.descendants().filter(named("polyline")).count(), 2);
            let texts: Vec<_> = root.descendants().filter_map(|node| node.text()).collect();
            assert!(texts.contains(&"a<b>") && texts.contains(&"a < b & \"c\""));
        }
    }

    #[test]
    fn a_chart_without_points_is_a_document() {
        let svg = chart(Axis::logarithmic("x"), Axis::linear("y"), &[("a", &[])]).svg();
        assert!(!svg.contains("NaN"), "{svg}");
        roxmltree::Document::parse(&svg).unwrap();
    }

    #[test]
    fn marks_are_round_and_around_the_values() {
        assert_eq!(
            logarithmic_marks(1.0, 10_000.0),
            [1.0, 10.0, 100.0, 1000.0, 10_000.0]
        );
        assert_eq!(logarithmic_marks(7.5, 12.0), [5.0, 10.0, 20.0]);
        assert_eq!(logarithmic_marks(10.0, 10.0), [10.0]);
        assert_eq!(counted_marks(1.0, 2.0), [1.0, 2.0]);
        assert!(counted_marks(f64::INFINITY, f64::NEG_INFINITY).is_empty());
        assert_eq!(linear_marks(9.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(linear_marks(120.0), [0.0, 50.0, 100.0, 150.0]);
    }

    #[test]
    fn numbers_have_no_empty_zeros() {
        let check = |mark, expected: &str| assert_eq!(number(mark), expected);
        check(0.0, "0");
        check(0.5, "0.5");
        check(1000.0, "1000");
        check(10_000.0, "10 k");
        check(65_536.0, "66 k");
    }
}
