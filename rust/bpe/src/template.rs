//! Ids that a post-processor puts around one text or two.

/// A place in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// These ids.
    Ids(Vec<u32>),
    /// The ids of the first text.
    First,
    /// The ids of the second text.
    Second,
}

/// What one text and what two texts become.
#[derive(Debug, Clone)]
pub struct Template {
    /// For one text.
    pub single: Vec<Item>,
    /// For two.
    pub pair: Vec<Item>,
}

impl Default for Template {
    fn default() -> Self {
        Self { single: vec![Item::First], pair: vec![Item::First, Item::Second] }
    }
}

impl Template {
    /// Ids before and after the only text.
    #[must_use]
    pub fn around(&self) -> (Vec<u32>, Vec<u32>) {
        let (mut before, mut after, mut seen) = (Vec::new(), Vec::new(), false);
        for item in &self.single {
            match item {
                Item::Ids(ids) if seen => after.extend_from_slice(ids),
                Item::Ids(ids) => before.extend_from_slice(ids),
                _ => seen = true,
            }
        }
        (before, after)
    }

    /// Two texts' ids as the template orders them.
    #[must_use]
    pub fn join(&self, first: &[u32], second: &[u32]) -> Vec<u32> {
        let mut joined = Vec::with_capacity(first.len() + second.len() + 4);
        for item in &self.pair {
            joined.extend_from_slice(match item {
                Item::Ids(ids) => ids,
                Item::First => first,
                Item::Second => second,
            });
        }
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stand_where_the_template_says() {
        let template = Template {
            single: vec![Item::Ids(vec![1]), Item::First, Item::Ids(vec![2, 3])],
            pair: vec![Item::Ids(vec![1]), Item::First, Item::Ids(vec![1]), Item::Second],
        };
        assert_eq!(template.around(), (vec![1], vec![2, 3]));
        assert_eq!(template.join(&[7], &[8, 9]), [1, 7, 1, 8, 9]);
        assert_eq!(Template::default().join(&[7], &[8]), [7, 8]);
    }
}
