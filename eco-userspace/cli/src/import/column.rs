// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The columns of a table by name, and the units of what they hold.

/// A table's header.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    names: Vec<String>,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// In µJ.
    Energy,
    /// In ng CO2e.
    Carbon,
}

/// One row under its columns.
pub(crate) struct Row<'a> {
    pub(crate) columns: &'a Columns,
    pub(crate) cells: &'a [String],
    pub(crate) line: u64,
}

impl Columns {
    /// Of a header.
    pub(crate) fn new(names: &[String]) -> Self {
        Self {
            names: names.to_vec(),
        }
    }

    /// How many there are.
    pub(crate) fn width(&self) -> usize {
        self.names.len()
    }

    /// Whether all of these are there: each as it is, or followed by a unit in parentheses.
    pub(crate) fn missing<'a>(&self, wanted: &[&'a str]) -> Option<&'a str> {
        wanted
            .iter()
            .find(|name| self.place(name).is_none())
            .copied()
    }

    fn place(&self, name: &str) -> Option<(usize, &str)> {
        self.names.iter().enumerate().find_map(|(at, found)| {
            let rest = found.strip_prefix(name)?.trim_start();
            if rest.is_empty() {
                return Some((at, ""));
            }
            let unit = rest.strip_prefix('(')?.strip_suffix(')')?;
            Some((at, unit.trim()))
        })
    }
}

impl Row<'_> {
    /// The text of a cell; `None` where there is no such column, or nothing in it.
    pub(crate) fn text(&self, column: &str) -> Option<&str> {
        let (at, _) = self.columns.place(column)?;
        let text = self.cells.get(at)?.as_str();
        let is_none = matches!(text, "" | "N/A" | "None" | "nan" | "NaN" | "NA");
        (!is_none).then_some(text)
    }

    /// The number in a cell that must have one: finite, and not negative.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn number(&self, column: &str) -> Result<f64, String> {
        let (at, _) = self
            .columns
            .place(column)
            .ok_or_else(|| format!("there is no column `{column}`"))?;
        let text = self.cells.get(at).map_or("", String::as_str);
        number(text).map_err(|why| format!("`{column}` {why}"))
    }

    /// An amount, in µJ or ng: in the unit that the column's name has, or else in `unit`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn amount(
        &self,
        column: &str,
        quantity: Quantity,
        unit: &str,
    ) -> Result<f64, String> {
        let value = self.number(column)?;
        let named = self.columns.place(column).map_or("", |(_, unit)| unit);
        let unit = if named.is_empty() { unit } else { named };
        let factor = factor(quantity, unit)
            .ok_or_else(|| format!("`{column}` is in `{unit}`, a unit that eco does not know"))?;
        Ok(value * factor)
    }

    /// As [`Row::amount`], of a cell that may be empty.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn amount_if_any(
        &self,
        column: &str,
        quantity: Quantity,
        unit: &str,
    ) -> Result<Option<f64>, String> {
        if self.text(column).is_none() {
            return Ok(None);
        }
        self.amount(column, quantity, unit).map(Some)
    }

    /// A count that may be missing or no count at all.
    pub(crate) fn count(&self, column: &str) -> u32 {
        let number = self.text(column).and_then(|text| number(text).ok());
        number.map_or(0, |number| number as u32)
    }
}

/// A finite number that is not negative.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn number(text: &str) -> Result<f64, String> {
    let shown: String = text.chars().take(40).collect();
    match text.trim().parse::<f64>() {
        _ if text.trim().is_empty() => Err("is empty".to_owned()),
        Err(_) => Err(format!("is `{shown}`, which is no number")),
        Ok(number) if !number.is_finite() => Err(format!("is `{shown}`, which is no amount")),
        Ok(number) if number < 0.0 => Err(format!("is {shown}, and must not be negative")),
        Ok(number) => Ok(number),
    }
}

/// How many µJ, or ng, a unit is. `kWTh` is how eco2AI wrote kWh until 0.3.
pub(crate) fn factor(quantity: Quantity, unit: &str) -> Option<f64> {
    Some(match (quantity, unit) {
        (Quantity::Energy, "MWh") => 3.6e15,
        (Quantity::Energy, "kWh" | "kWTh") => 3.6e12,
        (Quantity::Energy, "Wh") => 3.6e9,
        (Quantity::Energy, "MJ") => 1e12,
        (Quantity::Energy, "kJ") => 1e9,
        (Quantity::Energy, "J") => 1e6,
        (Quantity::Carbon, "t") => 1e15,
        (Quantity::Carbon, "kg") => 1e12,
        (Quantity::Carbon, "g") => 1e9,
        (Quantity::Carbon, "mg") => 1e6,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_in_the_name_of_a_column_counts() {
        let names = ["energy(J)", "energy2 (Wh)", "carbon", "odd(BTU)"];
        let columns = Columns::new(&names.map(str::to_owned));
        let cells = ["2", "1", "3", "1"].map(str::to_owned);
        let row = Row {
            columns: &columns,
            cells: &cells,
            line: 1,
        };
        assert_eq!(row.amount("energy", Quantity::Energy, "kWh"), Ok(2e6));
        assert_eq!(row.amount("energy2", Quantity::Energy, "kWh"), Ok(3.6e9));
        assert_eq!(row.amount("carbon", Quantity::Carbon, "kg"), Ok(3e12));
        let why = row.amount("odd", Quantity::Energy, "kWh").unwrap_err();
        assert!(why.contains("BTU"), "{why}");
        assert_eq!(columns.missing(&["carbon", "odd", "none"]), Some("none"));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "NaN", "inf", "-1", "-inf", "1,5", "12 Wh", "0x10"] {
            assert!(number(text).is_err(), "{text}");
        }
        assert_eq!(number(" 1e-6 "), Ok(1e-6));
    }
}
