//! The classes of rows.

use std::collections::BTreeSet;

/// A class for each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// The classes' names.
    pub names: Vec<String>,
    /// The number of each row's class among `names`, from 0.
    pub of_rows: Vec<u32>,
}

impl Labels {
    /// Classes with numbers for names: those that occur, increasing.
    pub(super) fn of_numbers(numbers: &[i64]) -> Labels {
        let classes: Vec<i64> =
            numbers.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let place = |n| classes.binary_search(n).expect("one of them") as u32;
        let of_rows = numbers.iter().map(place).collect();
        Labels { names: classes.iter().map(i64::to_string).collect(), of_rows }
    }

    /// Classes by name: those that occur, sorted.
    pub(super) fn of_names(names: &[String]) -> Labels {
        let classes: Vec<String> =
            names.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let of_rows =
            names.iter().map(|n| classes.binary_search(n).expect("one of them") as u32).collect();
        Labels { names: classes, of_rows }
    }

    /// The labels of `rows`, in this order.
    pub(super) fn take(&self, rows: &[usize]) -> Labels {
        let of_rows = rows.iter().map(|&i| self.of_rows[i]).collect();
        Labels { names: self.names.clone(), of_rows }
    }

    /// The same labels as numbers among `classes`, found by name. Classes that have numbers for
    /// names (an imported model knows no others) stand for as many of any name, in their order.
    ///
    /// # Errors
    /// The name that is not among `classes`.
    pub(crate) fn among(self, classes: &[String]) -> std::result::Result<Labels, String> {
        let place =
            |name: &String| classes.iter().position(|class| class == name).map(|i| i as u32);
        let places: Vec<Option<u32>> = self.names.iter().map(place).collect();
        if let Some(unknown) = places.iter().position(Option::is_none) {
            let numbered = classes.iter().enumerate().all(|(i, class)| *class == i.to_string());
            return match numbered && classes.len() == self.names.len() {
                true => Ok(Labels { names: classes.to_vec(), ..self }),
                false => Err(self.names[unknown].clone()),
            };
        }
        let of_rows =
            self.of_rows.iter().map(|&i| places[i as usize].expect("all are known")).collect();
        Ok(Labels { names: classes.to_vec(), of_rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn classes_are_sorted_and_found_by_name() {
        let numbers = Labels::of_numbers(&[10, 2, 10, -1]);
        assert_eq!(numbers, Labels { names: names(&["-1", "2", "10"]), of_rows: vec![2, 1, 2, 0] });
        let pets = Labels::of_names(&names(&["dog", "cat", "dog"]));
        assert_eq!(pets, Labels { names: names(&["cat", "dog"]), of_rows: vec![1, 0, 1] });
        let among = pets.clone().among(&names(&["dog", "eel", "cat"])).unwrap();
        assert_eq!(among.of_rows, [0, 2, 0]);
        assert_eq!(pets.clone().among(&names(&["dog", "eel"])).unwrap_err(), "cat");
        // a model that knows its classes by number only
        assert_eq!(pets.clone().among(&names(&["0", "1"])).unwrap().of_rows, [1, 0, 1]);
        assert!(pets.among(&names(&["0", "1", "2"])).is_err());
    }
}
