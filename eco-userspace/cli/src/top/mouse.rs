// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a mouse does: it marks, orders, scrolls and goes back; for all else it clicks on what the
//! bottom line says of the keys.

use ratatui::crossterm::event::{KeyCode, KeyEvent, MouseButton, MouseEvent, MouseEventKind};

use super::{
    input::{Wish, on_key},
    model::{Mode, Model},
    view::{Target, Targets},
};

/// Lines that one notch of the wheel moves the mark by.
const NOTCH: isize = 3;

/// Does what a mouse asks. `targets` are those of the picture that is shown.
pub(crate) fn on_mouse(model: &mut Model, event: MouseEvent, targets: &Targets) -> Wish {
    match event.kind {
        MouseEventKind::ScrollUp => scroll(model, -1, targets),
        MouseEventKind::ScrollDown => scroll(model, 1, targets),
        MouseEventKind::Down(MouseButton::Left) => {
            click(model, targets.at(event.column, event.row), targets)
        }
        _ => Wish::Redraw,
    }
}

fn scroll(model: &mut Model, by: isize, targets: &Targets) -> Wish {
    match model.mode {
        Mode::List | Mode::Search(_) | Mode::Filter => model.step(by * NOTCH),
        Mode::SortMenu(_) | Mode::KindMenu(_) | Mode::UserMenu(_) => {
            let key = if by < 0 { KeyCode::Up } else { KeyCode::Down };
            return press(model, key, targets);
        }
        Mode::Help | Mode::Details(_) => {}
    }
    Wish::Redraw
}

fn click(model: &mut Model, target: Option<Target>, targets: &Targets) -> Wish {
    match (&mut model.mode, target) {
        (
            Mode::SortMenu(marked) | Mode::KindMenu(marked) | Mode::UserMenu(marked),
            Some(Target::MenuLine(line)),
        ) => {
            *marked = line;
            return press(model, KeyCode::Enter, targets);
        }
        // Beside what lies over the list is a way out of it.
        (Mode::List | Mode::Search(_) | Mode::Filter, _) => {}
        _ => {
            model.mode = Mode::List;
            return Wish::Redraw;
        }
    }
    match target {
        Some(Target::Line(line)) => model.mark(line),
        Some(Target::Head(sort)) if model.sort == sort => model.change(|m| m.inverted ^= true),
        Some(Target::Head(sort)) => model.sort_by(sort),
        Some(Target::Level(depth)) => model.leave_to(depth),
        Some(Target::Key(key)) => return press(model, key, targets),
        Some(Target::MenuLine(_)) | None => {}
    }
    Wish::Redraw
}

fn press(model: &mut Model, key: KeyCode, targets: &Targets) -> Wish {
    on_key(model, KeyEvent::from(key), targets.page)
}

#[cfg(test)]
mod tests {
    use eco_agent::api::{Unit, Units};
    use ratatui::{Terminal, backend::TestBackend, crossterm::event::KeyModifiers};

    use super::*;
    use crate::top::{
        kind::{Kind, Sort},
        view::{Looks, draw},
    };

    const LOOKS: Looks = Looks {
        colour: false,
        unicode: true,
    };

    fn model(kind: Kind) -> Model {
        let unit = |n: u32| Unit {
            name: format!("unit-{n}"),
            watts: f64::from(100 - n),
            ..Unit::default()
        };
        let mut model = Model::new(kind);
        model.feed(Units {
            units: (0..40).map(unit).collect(),
            ..Units::default()
        });
        model
    }

    /// Without a node, the way is line 0, the headings are line 1, and the list begins in line 2.
    fn mouse(model: &mut Model, kind: MouseEventKind, column: u16, row: u16) -> Wish {
        let mut terminal = Terminal::new(TestBackend::new(80, 12)).unwrap();
        let mut targets = Targets::default();
        let drawn = terminal.draw(|frame| targets = draw(frame, model, LOOKS));
        drawn.unwrap();
        let event = MouseEvent {
            kind,
            column,
            row,
            modifiers: KeyModifiers::NONE,
        };
        on_mouse(model, event, &targets)
    }

    fn click(model: &mut Model, column: u16, row: u16) -> Wish {
        mouse(model, MouseEventKind::Down(MouseButton::Left), column, row)
    }

    #[test]
    fn a_click_marks_a_line_also_of_a_list_that_was_scrolled() {
        let mut model = model(Kind::User);
        click(&mut model, 30, 6);
        assert_eq!(model.selected(), 3);
        model.step(isize::MAX);
        click(&mut model, 0, 3);
        assert_eq!(model.selected(), 32, "the last page begins at 32");
        for (column, row) in [(79, 0), (500, 500), (0, 11)] {
            click(&mut model, column, row);
            model.mode = Mode::List;
        }
        assert_eq!(model.selected(), 32);
    }

    #[test]
    fn a_click_on_a_heading_orders_by_it_and_another_turns_that_round() {
        let mut model = model(Kind::User);
        click(&mut model, 60, 2);
        assert_eq!((model.sort, model.inverted), (Sort::Name, false));
        click(&mut model, 60, 2);
        assert_eq!((model.sort, model.inverted), (Sort::Name, true));
        click(&mut model, 20, 2);
        assert_eq!((model.sort, model.inverted), (Sort::Cpu, false));
    }

    #[test]
    fn the_wheel_scrolls_and_stops_at_both_ends() {
        let mut model = model(Kind::User);
        for _ in 0..3 {
            mouse(&mut model, MouseEventKind::ScrollDown, 5, 5);
        }
        assert_eq!(model.selected(), 9);
        for _ in 0..9 {
            mouse(&mut model, MouseEventKind::ScrollUp, 5, 5);
        }
        assert_eq!(model.selected(), 0);
    }

    #[test]
    fn a_click_on_the_way_goes_back_there() {
        let mut model = model(Kind::User);
        model.enter();
        assert_eq!(model.place().levels().len(), 1);
        // " users › unit-0 › processes"
        click(&mut model, 10, 1);
        assert_eq!(model.place().levels().len(), 1, "that is where one is");
        click(&mut model, 3, 1);
        assert_eq!(model.place().levels().len(), 0);
    }

    #[test]
    fn what_the_bottom_line_says_can_be_clicked_on_and_so_can_a_menu() {
        let mut model = model(Kind::User);
        // "F1Help F2Kind F3Search F4Filter F5Tree F6Sort EntOpen BkspBack F10Quit"
        click(&mut model, 1, 11);
        assert_eq!(model.mode, Mode::Help);
        click(&mut model, 1, 11);
        assert_eq!(model.mode, Mode::List, "any click closes it");
        click(&mut model, 40, 11);
        assert!(matches!(model.mode, Mode::SortMenu(_)));
        // Six lines in a frame, in the middle of twelve.
        click(&mut model, 40, 3);
        assert_eq!((model.sort, &model.mode), (Sort::Cpu, &Mode::List));
        click(&mut model, 40, 11);
        click(&mut model, 1, 4);
        assert_eq!((model.sort, &model.mode), (Sort::Cpu, &Mode::List));
        assert_eq!(click(&mut model, 65, 11), Wish::Quit);
    }
}
