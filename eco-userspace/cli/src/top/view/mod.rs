// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The picture of a model: for a terminal of any size, light or dark, with colour or without.
//!
//! What matters is said in words and by reversed or bold text; colour only repeats it.

mod boxes;
mod footer;
mod header;
mod looks;
mod targets;

use eco_agent::api::Unit;
use ratatui::{
    Frame,
    layout::{Constraint, Flex, Layout, Rect},
    style::{Color, Style},
    text::Line,
    widgets::{Paragraph, Row as TableRow, Table},
};

use super::{
    kind::{Kind, Sort, joules, key},
    model::{Link, Model},
    rows::Row,
};
use crate::out::{printable, quantity};

pub(crate) use self::{
    looks::Looks,
    targets::{Target, Targets},
};

/// A list that is narrower leaves out owner and energy: who it is, and how much now, matter most.
const WITH_OWNER: u16 = 60;
/// A list this wide shows each unit's power before, and from here on what it emits.
const WITH_HISTORY: u16 = 110;
const WITH_CARBON: u16 = 95;
const HISTORY: usize = 16;
/// Between two columns.
const SPACING: u16 = 1;

/// Draws everything. Gives what is where.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &mut Model, looks: Looks) -> Targets {
    let mut targets = Targets::default();
    let header = header::lines(model, looks.colour, frame.area());
    let height = u16::try_from(header.len()).unwrap_or(u16::MAX);
    let [top, list, bottom] = Layout::vertical([
        Constraint::Length(height),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(header), top);
    header::add_way(model, top, &mut targets);
    draw_list(frame, model, list, &mut targets);
    footer::draw(frame, model, bottom, &mut targets);
    boxes::draw(frame, model, &mut targets);
    looks.fit(frame.buffer_mut());
    targets
}

fn draw_list(frame: &mut Frame<'_>, model: &mut Model, area: Rect, targets: &mut Targets) {
    targets.page = usize::from(area.height.saturating_sub(1));
    let visible = model.visible(targets.page);
    for (line, row) in visible.clone().zip(area.rows().skip(1)) {
        targets.add(row, Target::Line(line));
    }
    let selected = model.selected();
    let columns = Columns::of(model, area.width);
    columns.add_heads(model, area, targets);
    let rows: Vec<TableRow<'_>> = visible
        .clone()
        .zip(&model.rows()[visible])
        .map(|(place, row)| {
            let line = table_row(model, row, columns);
            if place == selected {
                line.style(Style::new().reversed())
            } else {
                line
            }
        })
        .collect();
    let empty = rows.is_empty();
    let table = Table::new(rows, columns.widths(model))
        .header(heads(model, columns).style(Style::new().reversed()))
        .column_spacing(SPACING);
    frame.render_widget(table, area);
    if empty && area.height > 2 {
        let message = match (&model.link, model.units.units.is_empty()) {
            (Link::Waiting, _) => "waiting for the agent",
            (Link::Lost(_), true) => "no data; `eco status` tells what is missing",
            (_, false) => "nothing matches; Esc shows all",
            (Link::Live, true) if model.kind() == Kind::Job => "no jobs; try: eco run -- CMD",
            (Link::Live, true) => "none",
        };
        let middle = Rect {
            y: area.y + 2,
            height: 1,
            ..area
        };
        frame.render_widget(Paragraph::new(message).centered(), middle);
    }
}

fn heads(model: &Model, columns: Columns) -> TableRow<'static> {
    let heads = columns.heads(model).into_iter().map(|head| {
        let mut text = head.text.to_owned();
        if head.sort == Some(model.sort) {
            // Large numbers first is down; names and process ids go up from the smallest.
            let down = model.sort.is_descending() != model.inverted;
            text.push(if down { '▼' } else { '▲' });
        }
        let line = Line::raw(text);
        if head.is_number {
            line.right_aligned()
        } else {
            line
        }
    });
    TableRow::new(heads)
}

/// The heading of a column.
struct Head {
    text: &'static str,
    width: Constraint,
    /// What it orders by, if it does.
    sort: Option<Sort>,
    is_number: bool,
}

/// Which of the columns that not every screen has are shown.
#[derive(Clone, Copy)]
struct Columns {
    owner: bool,
    gpu: bool,
    carbon: bool,
    history: bool,
}

impl Columns {
    fn of(model: &Model, width: u16) -> Self {
        let node = &model.units.node;
        Self {
            owner: width >= WITH_OWNER,
            gpu: node.watts.contains_key("gpu") && width >= WITH_CARBON,
            carbon: node.carbon_grams_per_hour.is_some() && width >= WITH_CARBON,
            history: width >= WITH_HISTORY,
        }
    }

    /// From left to right.
    fn heads(self, model: &Model) -> Vec<Head> {
        let head = |text, width, sort: Option<Sort>, is_number| Head {
            text,
            width: Constraint::Length(width),
            sort,
            is_number,
        };
        let (first, last) = match model.kind() {
            Kind::Process => ("PID", "COMMAND"),
            _ => ("TASKS", "NAME"),
        };
        let all = [
            (true, head(first, 7, Some(Sort::Pid), true)),
            (self.owner, head("USER", 9, Some(Sort::User), false)),
            (true, head("CPU%", 6, Some(Sort::Cpu), true)),
            (true, head("W", 8, Some(Sort::Watts), true)),
            (self.owner, head("ENERGY", 9, Some(Sort::Energy), true)),
            (self.gpu, head("GPU W", 8, None, true)),
            (self.carbon, head("CO2 g/h", 8, None, true)),
            (self.history, head("BEFORE", HISTORY as u16, None, false)),
        ];
        let shown = all.into_iter().filter(|(shown, _)| *shown);
        let mut heads: Vec<Head> = shown.map(|(_, head)| head).collect();
        heads.push(Head {
            text: last,
            width: Constraint::Fill(1),
            sort: Some(Sort::Name),
            is_number: false,
        });
        heads
    }

    fn widths(self, model: &Model) -> Vec<Constraint> {
        self.heads(model).iter().map(|head| head.width).collect()
    }

    /// Where the table puts the headings.
    fn add_heads(self, model: &Model, area: Rect, targets: &mut Targets) {
        let line = Rect {
            height: area.height.min(1),
            ..area
        };
        let areas = Layout::horizontal(self.widths(model))
            .flex(Flex::Start)
            .spacing(SPACING)
            .split(line);
        for (head, area) in self.heads(model).iter().zip(areas.iter()) {
            if let Some(sort) = head.sort {
                targets.add(*area, Target::Head(sort));
            }
        }
    }
}

fn table_row(model: &Model, row: &Row, columns: Columns) -> TableRow<'static> {
    let unit = &model.units.units[row.unit];
    let first = match unit.pid {
        Some(pid) => pid.to_string(),
        None if model.kind() == Kind::Process => String::new(),
        None => unit.tasks.to_string(),
    };
    let mut cells = vec![Line::raw(first).right_aligned()];
    if columns.owner {
        let owner = printable(unit.user.as_deref().unwrap_or(""));
        cells.push(Line::raw(owner.into_owned()));
    }
    cells.push(Line::raw(percent(unit.cpu_percent)).right_aligned());
    cells.push(Line::raw(number(unit.watts)).right_aligned());
    if columns.owner {
        cells.push(Line::raw(quantity(joules(unit), "J")).right_aligned());
    }
    if columns.gpu {
        let watts = model.history.gpu_watts(key(unit));
        cells.push(Line::raw(watts.map_or_else(|| "-".to_owned(), number)).right_aligned());
    }
    if columns.carbon {
        let rate = unit.carbon_grams_per_hour;
        cells.push(Line::raw(rate.map_or_else(|| "-".to_owned(), number)).right_aligned());
    }
    if columns.history {
        let known: Vec<f64> = model.history.unit(key(unit)).collect();
        let shown = &known[known.len().saturating_sub(HISTORY)..];
        let peak = shown.iter().copied().fold(0.0, f64::max);
        cells.push(Line::raw(spark(shown, peak)));
    }
    cells.push(Line::raw(format!("{}{}", row.branch, name(unit))));
    TableRow::new(cells)
}

/// What to call a unit on the screen.
pub(crate) fn name(unit: &Unit) -> String {
    let label = if unit.label.is_empty() {
        &unit.name
    } else {
        &unit.label
    };
    let mark = if unit.kind == "kernel" || unit.kind == "other" {
        format!(" [{}]", unit.kind)
    } else {
        String::new()
    };
    let place = match (&unit.pod, &unit.container) {
        (Some(pod), Some(container)) => {
            format!(" {} in {}", printable(container), printable(pod))
        }
        (Some(pod), None) => format!(" in {}", printable(pod)),
        _ => String::new(),
    };
    format!("{}{mark}{place}", printable(label))
}

/// Values as a line of bars, the highest as high as `peak`.
fn spark(values: &[f64], peak: f64) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    // Less than this is noise, and not to be drawn as mountains.
    let peak = peak.max(0.1);
    let bar = |value: f64| {
        // A float that is none becomes zero.
        let height = (value / peak * 7.0).round() as usize;
        BARS[height.min(7)]
    };
    values.iter().copied().map(bar).collect()
}

/// A share in percent, in at most six columns for a thousand CPUs.
pub(crate) fn percent(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.1}")
    } else {
        "?".to_owned()
    }
}

/// A number in at most eight columns.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => "?".to_owned(),
        v if v < 99_999.995 => format!("{value:.2}"),
        v if v < 1e8 => format!("{value:.0}"),
        _ => format!("{value:.2e}"),
    }
}

/// What must not be overlooked.
fn alarm(colour: bool) -> Style {
    let style = Style::new().bold().reversed();
    if colour { style.fg(Color::Red) } else { style }
}
