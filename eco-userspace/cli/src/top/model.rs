// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `eco top` knows and shows, without a terminal: units in, rows out.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashMap, HashSet},
};

use clap::ValueEnum;
use eco_agent::api::{Unit, Units};

use crate::energy;

/// What is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Processes.
    #[default]
    Process,
    /// Jobs: `eco run`, Slurm.
    Job,
    /// Containers.
    Container,
    /// Systemd units.
    Systemd,
    /// Users.
    User,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Process,
        Self::Job,
        Self::Container,
        Self::Systemd,
        Self::User,
    ];

    /// The value of the API's `kind`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Job => "job",
            Self::Container => "container",
            Self::Systemd => "systemd",
            Self::User => "user",
        }
    }

    fn next(self, step: usize) -> Self {
        let at = Self::ALL.iter().position(|&kind| kind == self).unwrap_or(0);
        Self::ALL[(at + step) % Self::ALL.len()]
    }
}

/// What rows are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    /// CPU time over the window.
    Cpu,
    /// Power over the window.
    #[default]
    Watts,
    /// Energy since the unit is known.
    Energy,
    /// Process id.
    Pid,
    /// Command or name.
    Name,
}

impl Sort {
    /// In the order of the menu.
    pub(crate) const ALL: [Self; 5] = [Self::Cpu, Self::Watts, Self::Energy, Self::Pid, Self::Name];

    /// For the menu.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Cpu => "CPU%",
            Self::Watts => "W",
            Self::Energy => "J",
            Self::Pid => "PID",
            Self::Name => "NAME",
        }
    }

    /// Large numbers first, names and process ids from the smallest.
    fn compare(self, a: &Unit, b: &Unit) -> Ordering {
        let order = match self {
            Self::Cpu => b.cpu_percent.total_cmp(&a.cpu_percent),
            Self::Watts => b.watts.total_cmp(&a.watts),
            Self::Energy => joules(b).total_cmp(&joules(a)),
            Self::Pid => a.pid.cmp(&b.pid),
            Self::Name => a.label.cmp(&b.label),
        };
        // Ties must not dance from one tick to the next.
        order
            .then_with(|| a.pid.cmp(&b.pid))
            .then_with(|| a.name.cmp(&b.name))
    }
}

/// What the keys mean now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Moving about.
    #[default]
    List,
    /// Typing words to look for.
    Search(String),
    /// Typing words to show only.
    Filter,
    /// Choosing the order: the line that is marked.
    SortMenu(usize),
    /// Choosing a user: the line that is marked; 0 is everybody.
    UserMenu(usize),
    /// Reading the keys.
    Help,
}

/// Whether data comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Link {
    /// None has come yet.
    #[default]
    Waiting,
    /// It comes.
    Live,
    /// It does not, and why.
    Lost(String),
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Which of the units.
    pub(crate) unit: usize,
    /// What stands before the name in a tree.
    pub(crate) branch: String,
}

/// All that the screen depends on.
#[derive(Default)]
pub(crate) struct Model {
    /// What is listed.
    pub(crate) kind: Kind,
    /// The order.
    pub(crate) sort: Sort,
    /// Whether the order is turned round.
    pub(crate) inverted: bool,
    /// Whether processes hang below their parents.
    pub(crate) tree: bool,
    /// Whether the list stands still.
    pub(crate) paused: bool,
    /// Only units that have this in what they show.
    pub(crate) filter: String,
    /// Only units of this user.
    pub(crate) user: Option<String>,
    /// What the keys mean.
    pub(crate) mode: Mode,
    /// Whether data comes.
    pub(crate) link: Link,
    /// How the agent knows CPU time; empty until it has said so.
    pub(crate) tier: String,
    /// What is shown.
    pub(crate) units: Units,
    rows: Vec<Row>,
    selected: usize,
    first_visible: usize,
}

impl Model {
    /// A model that lists one kind.
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }

    /// Takes new data, unless the list stands still.
    pub(crate) fn feed(&mut self, units: Units) {
        self.link = Link::Live;
        if !self.paused {
            let marked = self.marked().map(|unit| unit.name.clone());
            self.units = units;
            self.arrange_around(marked);
        }
    }

    /// Hears that data does not come.
    pub(crate) fn lose(&mut self, why: String) {
        self.link = Link::Lost(why);
    }

    /// The lines of the table.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The marked line.
    pub(crate) fn selected(&self) -> usize {
        self.selected
    }

    /// The lines that fit on a screen of `height`, which always include the marked one.
    pub(crate) fn visible(&mut self, height: usize) -> std::ops::Range<usize> {
        let last_start = self.rows.len().saturating_sub(height);
        self.first_visible = self
            .first_visible
            .clamp(
                (self.selected + 1).saturating_sub(height.max(1)),
                self.selected,
            )
            .min(last_start);
        self.first_visible..(self.first_visible + height).min(self.rows.len())
    }

    /// Moves the mark.
    pub(crate) fn step(&mut self, by: isize) {
        let last = self.rows.len().saturating_sub(1);
        self.selected = self.selected.saturating_add_signed(by).min(last);
    }

    /// Lists another kind.
    pub(crate) fn next_kind(&mut self, step: usize) {
        self.kind = self.kind.next(step);
        self.units.units.clear();
        (self.user, self.paused) = (None, false);
        self.arrange_around(None);
    }

    /// Changes something that rows depend on, and keeps the mark on its unit.
    pub(crate) fn change(&mut self, with: impl FnOnce(&mut Self)) {
        let marked = self.marked().map(|unit| unit.name.clone());
        with(self);
        self.arrange_around(marked);
    }

    /// Marks the next unit that shows these words, from the marked one (or after it) on.
    pub(crate) fn search(&mut self, words: &str, after: bool) {
        let words = words.to_lowercase();
        let count = self.rows.len();
        let order =
            (usize::from(after)..count + usize::from(after)).map(|i| (self.selected + i) % count);
        let mut order = order.filter(|&i| matches(&self.units.units[self.rows[i].unit], &words));
        if let Some(found) = order.next() {
            self.selected = found;
        }
    }

    /// Everybody who owns a listed unit, by name.
    pub(crate) fn users(&self) -> Vec<String> {
        let users: BTreeSet<&String> = self
            .units
            .units
            .iter()
            .filter_map(|unit| unit.user.as_ref())
            .collect();
        users.into_iter().cloned().collect()
    }

    fn marked(&self) -> Option<&Unit> {
        self.rows
            .get(self.selected)
            .map(|row| &self.units.units[row.unit])
    }

    fn arrange_around(&mut self, marked: Option<String>) {
        self.rows = self.arrange();
        let place = marked.and_then(|name| {
            self.rows
                .iter()
                .position(|row| self.units.units[row.unit].name == name)
        });
        self.selected = place
            .unwrap_or(self.selected)
            .min(self.rows.len().saturating_sub(1));
    }

    fn arrange(&self) -> Vec<Row> {
        let units = &self.units.units;
        let words = self.filter.to_lowercase();
        let mut shown: Vec<usize> = (0..units.len())
            .filter(|&i| matches(&units[i], &words))
            .filter(|&i| self.user.is_none() || units[i].user == self.user)
            .collect();
        shown.sort_by(|&a, &b| {
            let order = self.sort.compare(&units[a], &units[b]);
            if self.inverted {
                order.reverse()
            } else {
                order
            }
        });
        if self.tree && self.kind == Kind::Process {
            tree(units, &shown)
        } else {
            shown
                .into_iter()
                .map(|unit| Row {
                    unit,
                    branch: String::new(),
                })
                .collect()
        }
    }
}

/// The energy of a unit over domains that do not contain each other, in J.
pub(crate) fn joules(unit: &Unit) -> f64 {
    energy::total(&unit.energy_joules).unwrap_or(0.0)
}

fn matches(unit: &Unit, lower_case: &str) -> bool {
    lower_case.is_empty()
        || unit.label.to_lowercase().contains(lower_case)
        || unit.name.to_lowercase().contains(lower_case)
        || unit.pid.is_some_and(|pid| pid.to_string() == lower_case)
}

/// Hangs each process below its parent, where that is shown too. `shown` is in order.
fn tree(units: &[Unit], shown: &[usize]) -> Vec<Row> {
    let pids: HashSet<u32> = shown.iter().filter_map(|&i| units[i].pid).collect();
    let mut children: HashMap<u32, Vec<usize>> = HashMap::new();
    let mut roots = Vec::new();
    for &i in shown {
        match units[i].parent {
            Some(parent) if pids.contains(&parent) && units[i].pid != Some(parent) => {
                children.entry(parent).or_default().push(i);
            }
            _ => roots.push(i),
        }
    }
    let mut rows = Vec::with_capacity(shown.len());
    let mut placed = HashSet::new();
    // After the roots come all, for those whose parents are a circle: that cannot be, but an
    // agent could say so, and nobody may vanish for it.
    for root in roots.into_iter().chain(shown.iter().copied()) {
        let mut open = vec![(root, String::new(), String::new())];
        while let Some((unit, branch, below)) = open.pop() {
            if !placed.insert(unit) {
                continue;
            }
            rows.push(Row { unit, branch });
            let own = units[unit]
                .pid
                .and_then(|pid| children.remove(&pid))
                .unwrap_or_default();
            let last = own.len().saturating_sub(1);
            for (n, child) in own.into_iter().enumerate().rev() {
                let (corner, bar) = if n == last {
                    ("└─ ", "   ")
                } else {
                    ("├─ ", "│  ")
                };
                open.push((child, format!("{below}{corner}"), format!("{below}{bar}")));
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(pid: u32, parent: u32, label: &str, cpu: f64, watts: f64) -> Unit {
        Unit {
            kind: "process".into(),
            name: format!("{label}-{pid}"),
            label: label.into(),
            pid: Some(pid),
            parent: Some(parent),
            user: Some(if pid < 10 { "root" } else { "ann" }.into()),
            cpu_percent: cpu,
            watts,
            energy_joules: [("package".to_owned(), f64::from(pid))].into(),
            ..Unit::default()
        }
    }

    fn model() -> Model {
        let mut model = Model::default();
        model.feed(Units {
            units: vec![
                unit(1, 0, "init", 0.0, 0.1),
                unit(5, 1, "sshd", 1.0, 0.2),
                unit(20, 5, "bash", 2.0, 0.3),
                unit(21, 20, "Burn", 99.0, 9.0),
                unit(22, 20, "cat", 50.0, 12.0),
            ],
            ..Units::default()
        });
        model
    }

    fn labels(model: &Model) -> Vec<String> {
        let show = |row: &Row| format!("{}{}", row.branch, model.units.units[row.unit].label);
        model.rows().iter().map(show).collect()
    }

    #[test]
    fn each_order_puts_the_most_interesting_first() {
        let mut model = model();
        assert_eq!(labels(&model), ["cat", "Burn", "bash", "sshd", "init"]);
        model.change(|m| m.sort = Sort::Cpu);
        assert_eq!(labels(&model), ["Burn", "cat", "bash", "sshd", "init"]);
        model.change(|m| m.sort = Sort::Energy);
        assert_eq!(labels(&model), ["cat", "Burn", "bash", "sshd", "init"]);
        model.change(|m| m.sort = Sort::Pid);
        assert_eq!(labels(&model), ["init", "sshd", "bash", "Burn", "cat"]);
        model.change(|m| m.inverted = true);
        assert_eq!(labels(&model), ["cat", "Burn", "bash", "sshd", "init"]);
    }

    #[test]
    fn a_filter_finds_names_whatever_their_case_and_pids() {
        let mut model = model();
        model.change(|m| m.filter = "bU".into());
        assert_eq!(labels(&model), ["Burn"]);
        model.change(|m| m.filter = "22".into());
        assert_eq!(labels(&model), ["cat"]);
        model.change(|m| m.filter = "nothing has this".into());
        assert_eq!(labels(&model), [""; 0]);
        model.step(1);
        model.search("cat", true);
        assert_eq!((model.selected(), model.visible(10)), (0, 0..0));
    }

    #[test]
    fn only_the_chosen_users_units_are_shown() {
        let mut model = model();
        assert_eq!(model.users(), ["ann", "root"]);
        model.change(|m| m.user = Some("root".into()));
        assert_eq!(labels(&model), ["sshd", "init"]);
    }

    #[test]
    fn a_tree_hangs_children_below_parents_in_order() {
        let mut model = model();
        model.change(|m| m.tree = true);
        assert_eq!(
            labels(&model),
            [
                "init",
                "└─ sshd",
                "   └─ bash",
                "      ├─ cat",
                "      └─ Burn"
            ]
        );
        model.change(|m| m.filter = "a".into());
        assert_eq!(
            labels(&model),
            ["bash", "└─ cat"],
            "an orphan of the filter is a root"
        );
    }

    #[test]
    fn parents_in_a_circle_lose_nobody() {
        let mut model = Model {
            tree: true,
            ..Model::default()
        };
        model.feed(Units {
            units: vec![
                unit(1, 2, "a", 0.0, 3.0),
                unit(2, 1, "b", 0.0, 2.0),
                unit(3, 3, "c", 0.0, 1.0),
            ],
            ..Units::default()
        });
        assert_eq!(labels(&model), ["c", "a", "└─ b"]);
    }

    #[test]
    fn the_mark_stays_on_its_unit_while_the_order_changes() {
        let mut model = model();
        model.search("burn", false);
        assert_eq!(model.selected(), 1);
        model.change(|m| m.sort = Sort::Pid);
        assert_eq!(model.selected(), 3);
        let mut units = model.units.clone();
        units
            .units
            .retain(|unit| unit.label == "Burn" || unit.label == "init");
        model.feed(units);
        assert_eq!(model.selected(), 1);
        model.feed(Units::default());
        assert_eq!(model.selected(), 0);
    }

    #[test]
    fn the_marked_line_is_always_visible() {
        let mut model = model();
        model.step(4);
        assert_eq!(model.visible(2), 3..5);
        model.step(-3);
        assert_eq!(model.visible(2), 1..3);
        model.step(isize::MIN);
        assert_eq!(model.visible(2), 0..2);
        assert_eq!(model.visible(0), 0..0);
        model.step(isize::MAX);
        assert_eq!(model.visible(100), 0..5);
    }

    #[test]
    fn a_paused_list_stands_still() {
        let mut model = model();
        model.paused = true;
        model.feed(Units::default());
        assert_eq!(model.rows().len(), 5);
    }

    #[test]
    fn numbers_that_are_none_do_not_upset_the_order() {
        let mut model = model();
        let mut units = model.units.clone();
        units.units[0].watts = f64::NAN;
        units.units[1].watts = f64::INFINITY;
        model.feed(units);
        assert_eq!(model.rows().len(), 5);
    }

    #[test]
    fn kinds_go_round() {
        let mut model = model();
        for _ in 0..5 {
            model.next_kind(1);
        }
        assert_eq!(model.kind, Kind::Process);
        model.next_kind(4);
        assert_eq!(model.kind, Kind::User);
    }
}
