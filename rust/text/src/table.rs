//! A small open-addressing map from 64-bit keys to 32-bit values, made to be cleared often.

#[derive(Clone, Copy)]
struct Slot {
    key: u64,
    value: u32,
    /// The reset after which the slot was filled; other slots are empty.
    generation: u32,
}

const EMPTY: Slot = Slot { key: 0, value: 0, generation: 0 };

/// Map of `u64` keys (already distinct for distinct things) to `u32` values.
#[derive(Default)]
pub struct Table {
    slots: Vec<Slot>,
    /// Slots in use are the first `mask + 1`, so that small texts touch little memory.
    mask: usize,
    shift: u32,
    len: usize,
    generation: u32,
}

impl Table {
    /// Empties the table and makes room for about `expected` keys; it grows when there are more.
    pub fn reset(&mut self, expected: usize) {
        let capacity = (expected * 2).next_power_of_two().max(16);
        if self.slots.len() < capacity {
            self.slots.resize(capacity, EMPTY);
        }
        if self.generation == u32::MAX {
            self.slots.fill(EMPTY);
            self.generation = 0;
        }
        self.generation += 1;
        self.mask = capacity - 1;
        self.shift = 64 - capacity.trailing_zeros();
        self.len = 0;
    }

    /// The value stored under `key`; when there is none, stores `value` and returns it.
    #[inline(always)]
    pub fn get_or_insert(&mut self, key: u64, value: u32) -> u32 {
        // Multiplicative hashing by 2^64/φ (Knuth 6.4): the high bits depend on all of the key.
        let mut at = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize;
        loop {
            let slot = &mut self.slots[at & self.mask];
            if slot.generation != self.generation {
                *slot = Slot { key, value, generation: self.generation };
                self.len += 1;
                if self.len * 2 > self.mask + 1 {
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
    #[inline(never)]
    fn grow(&mut self) {
        let generation = self.generation;
        let old: Vec<Slot> = self.slots[..=self.mask]
            .iter()
            .copied()
            .filter(|slot| slot.generation == generation)
            .collect();
        self.reset(self.mask + 1);
        for slot in old {
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
