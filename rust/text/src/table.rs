//! A small open-addressing map from 64-bit keys to 32-bit values, made to be cleared often.

#[derive(Clone, Copy)]
struct Slot {
    key: u64,
    value: u32,
}

const EMPTY: Slot = Slot { key: 0, value: u32::MAX };

/// Map of `u64` keys (already distinct for distinct things) to values below `u32::MAX`.
#[derive(Default)]
pub struct Table {
    slots: Vec<Slot>,
    shift: u32,
    len: usize,
}

impl Table {
    /// Empties the table and makes room for about `expected` keys; it grows when there are more.
    pub fn reset(&mut self, expected: usize) {
        let capacity = (expected * 2).next_power_of_two().max(16);
        self.slots.clear();
        self.slots.resize(capacity, EMPTY);
        self.shift = 64 - capacity.trailing_zeros();
        self.len = 0;
    }

    /// The value stored under `key`; when there is none, stores `value` and returns it.
    #[inline]
    pub fn get_or_insert(&mut self, key: u64, value: u32) -> u32 {
        let mask = self.slots.len() - 1;
        // Multiplicative hashing by 2^64/φ (Knuth 6.4): the high bits depend on all of the key.
        let mut at = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize;
        loop {
            let slot = &mut self.slots[at & mask];
            if slot.value == u32::MAX {
                *slot = Slot { key, value };
                self.len += 1;
                if self.len * 2 > self.slots.len() {
                    self.grow();
                }
                return value;
            }
            if slot.key == key {
                return slot.value;
            }
            at += 1;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.reset(old.len());
        for slot in old.into_iter().filter(|slot| slot.value != u32::MAX) {
            self.get_or_insert(slot.key, slot.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn keeps_first_value_across_growth_and_reset() {
        let mut table = Table::default();
        for _ in 0..2 {
            table.reset(4);
            for key in 0..1000u64 {
                let value = u32::try_from(key).unwrap();
                assert_eq!(table.get_or_insert(key << 32, value), value);
            }
            for key in 0..1000u64 {
                assert_eq!(u64::from(table.get_or_insert(key << 32, 5)), key);
            }
        }
    }
}
