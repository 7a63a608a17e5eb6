// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The screen as a drawing, for those who read about it: SVG without fonts of its own, in the
//! colours that the reader's page has, light or dark.

use std::{fmt::Write as _, fs, path::Path};

use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};

use super::{
    model::Model,
    recording::{Recording, part},
    screen::Show,
    view::{self, Looks},
};
use crate::exit::Failure;

/// Wide enough for every column.
const COLUMNS: u16 = 116;
const LINES: u16 = 24;
/// A cell in pixels: letters of common fonts with one width are 0.6 as wide as they are large.
const CELL: (f64, f64) = (8.4, 18.0);
/// From the top of a cell to the line that letters stand on.
const BASELINE: f64 = 13.5;
const MARGIN: f64 = 12.0;

/// Ground, letters, frame and alarm of a page, light and dark.
const STYLE: &str = "\
.g{fill:#fff;stroke:#d0d7de}.f{fill:#1f2328}.r{fill:#fff}.a{fill:#cf222e}\
text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;\
white-space:pre}.b{font-weight:700}\
@media(prefers-color-scheme:dark){.g{fill:#0d1117;stroke:#3d444d}.f{fill:#e6edf3}\
.r{fill:#0d1117}.a{fill:#ff7b72}}";

/// Draws the last picture of a recording, with the history of those before it.
pub(super) fn save(mut recording: Recording, show: &Show, file: &Path) -> Result<(), Failure> {
    let mut model = Model::new(show.kind);
    model.tier.clone_from(&recording.header().tier);
    for picture in 0..recording.len() {
        let whole = recording.picture(picture).map_err(Failure::usage)?;
        let scope = model.scope();
        model.feed(part(whole, &scope, show.top.of(&scope)));
    }
    let looks = Looks {
        colour: true,
        unicode: true,
    };
    let Ok(mut terminal) = Terminal::new(TestBackend::new(COLUMNS, LINES));
    let Ok(drawn) = terminal.draw(|frame| _ = view::draw(frame, &mut model, looks));
    let drawing = svg(drawn.buffer);
    fs::write(file, drawing).map_err(|error| {
        let why = format!("{}: cannot be written: {error}", file.display());
        Failure::absent(why)
    })
}

/// A screen as SVG.
fn svg(screen: &Buffer) -> String {
    let (columns, lines) = (screen.area.width, screen.area.height);
    let width = f64::from(columns) * CELL.0 + 2.0 * MARGIN;
    let height = f64::from(lines) * CELL.1 + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         role=\"img\" aria-label=\"eco top\">\n<style>{STYLE}</style>\n\
         <rect class=\"g\" x=\".5\" y=\".5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"6\"/>\n",
        width - 1.0,
        height - 1.0,
    );
    for y in 0..lines {
        let row: Vec<&Cell> = (0..columns).map(|x| &screen[(x, y)]).collect();
        let mut start = 0;
        while start < row.len() {
            let same = |cell: &&&Cell| look(cell) == look(row[start]);
            let length = row[start..].iter().take_while(same).count();
            draw_run(&mut svg, &row[start..start + length], start, y);
            start += length;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// What cells that are drawn as one have in common.
fn look(cell: &Cell) -> (Modifier, Color, bool) {
    (cell.modifier, cell.fg, bar(cell).is_some())
}

/// How many eighths of a cell a bar of a history fills.
fn bar(cell: &Cell) -> Option<u32> {
    let letter = cell.symbol().chars().next()?;
    let eighths = u32::from(letter).checked_sub(u32::from('▁'))? + 1;
    (eighths <= 8).then_some(eighths)
}

fn draw_run(svg: &mut String, run: &[&Cell], start: usize, y: u16) {
    let first = run[0];
    let is_reversed = first.modifier.contains(Modifier::REVERSED);
    let ink = if first.fg == Color::Red { "a" } else { "f" };
    let x = MARGIN + start as f64 * CELL.0;
    let top = MARGIN + f64::from(y) * CELL.1;
    let width = run.len() as f64 * CELL.0;
    if is_reversed {
        let height = CELL.1;
        // Half a pixel more, or some browsers leave a seam between two lines.
        let _ = writeln!(
            svg,
            "<rect class=\"{ink}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" \
             height=\"{:.1}\"/>",
            height + 0.5
        );
    }
    if bar(first).is_some() {
        let ink = if is_reversed { "r" } else { ink };
        return draw_bars(svg, run, ink, (x, top));
    }
    let text: String = run.iter().map(|cell| cell.symbol()).collect();
    let text = text.trim_end();
    let blanks = text.len() - text.trim_start().len();
    let text = text.trim_start();
    if text.is_empty() {
        return;
    }
    let class = match (is_reversed, first.modifier.contains(Modifier::BOLD)) {
        (true, true) => "r b".to_owned(),
        (true, false) => "r".to_owned(),
        (false, true) => format!("{ink} b"),
        (false, false) => ink.to_owned(),
    };
    // The width is said, so that any font stands in its columns.
    let letters = ratatui::text::Span::raw(text).width();
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" textLength=\"{:.1}\">{}</text>",
        x + blanks as f64 * CELL.0,
        top + BASELINE,
        letters as f64 * CELL.0,
        escaped(text),
    );
}

/// Bars as one outline: letters for them differ from font to font.
fn draw_bars(svg: &mut String, run: &[&Cell], ink: &str, (x, top): (f64, f64)) {
    let mut path = String::new();
    let bottom = top + CELL.1;
    for (n, cell) in run.iter().enumerate() {
        let height = f64::from(bar(cell).unwrap_or(0)) / 8.0 * (CELL.1 - 2.0);
        let left = x + n as f64 * CELL.0;
        let _ = write!(
            path,
            "M{left:.1} {bottom:.1}v-{height:.1}h{0:.1}v{height:.1}z",
            CELL.0 - 1.0
        );
    }
    let _ = writeln!(svg, "<path class=\"{ink}\" d=\"{path}\"/>");
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            _ => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use ratatui::{layout::Rect, style::Style};

    use super::*;

    #[test]
    fn a_drawing_has_what_the_screen_has_and_no_tag_that_a_name_brought() {
        let mut screen = Buffer::empty(Rect::new(0, 0, 30, 3));
        screen.set_string(2, 0, "power <script>&  1 W", Style::new());
        screen.set_string(0, 1, "▁▂█", Style::new());
        screen.set_string(0, 2, " PID ", Style::new().reversed());
        let drawing = svg(&screen);
        assert!(
            drawing.contains(">power &lt;script&gt;&amp;  1 W</text>"),
            "{drawing}"
        );
        assert!(!drawing.contains("<script") && !drawing.contains('█'));
        assert_eq!(drawing.matches("v-").count(), 3, "three bars: {drawing}");
        assert!(
            drawing.contains("<text class=\"r\" x=\"20.4\""),
            "{drawing}"
        );
        assert!(drawing.starts_with("<svg ") && drawing.ends_with("</svg>\n"));
    }
}
