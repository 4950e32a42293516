//! Modules that Go's own compiler makes, and how much memory they begin with.

use std::convert::Infallible;
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{MemoryType, Module};
use wasmparser::{CustomSectionReader, KnownCustom, Parser};

/// Whether Go's linker has made a module with this custom section. It writes both, but each
/// can be missing: `-buildid=` leaves out the one, and `-s` of older versions the other.
pub(super) fn is_sign(section: &CustomSectionReader<'_>) -> bool {
    let KnownCustom::Producers(fields) = section.as_known() else {
        return section.name() == "go:buildid";
    };
    let mut languages = fields
        .into_iter()
        .flatten()
        .filter(|it| it.name == "language");
    languages.any(|it| it.values.into_iter().flatten().any(|it| it.name == "Go"))
}

/// How much room is made, in bytes.
const ROOM: u64 = 32 << 20;
/// How large a page of memory is.
const PAGE: u64 = 64 << 10;

/// Puts 32 MiB between the heap of a Go program and the memory of the adapter. Go takes
/// the pages that it adds for those right behind its heap (`runtime/mem_wasm.go`), also
/// where the adapter has added some before. So it would write over them, and the program
/// would die with `assertion failed at adapter line`. Others have met that too
/// (fastly/Viceroy#498); Go has no way yet to say which memory is taken.
pub(super) fn with_room(module: &[u8]) -> Result<Vec<u8>, reencode::Error<Infallible>> {
    struct Roomier;
    impl Reencode for Roomier {
        type Error = Infallible;

        fn memory_type(
            &mut self,
            memory: wasmparser::MemoryType,
        ) -> Result<MemoryType, reencode::Error<Infallible>> {
            let mut memory = reencode::utils::memory_type(self, memory);
            // A damaged module may claim any number; a later check refuses it.
            memory.minimum = memory.minimum.saturating_add(ROOM / PAGE);
            memory.maximum = memory.maximum.map(|it| it.max(memory.minimum));
            Ok(memory)
        }
    }
    let mut roomier = Module::new();
    Roomier.parse_core_module(&mut roomier, Parser::new(0), module)?;
    Ok(roomier.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::Payload;

    #[test]
    fn a_module_of_go_is_known_by_either_section() {
        let check = |section: &str, expected: bool| {
            let module = wat::parse_str(format!("(module (@custom {section}))")).unwrap();
            let is_go = Parser::new(0).parse_all(&module).any(|payload| {
                matches!(payload.unwrap(), Payload::CustomSection(section) if is_sign(&section))
            });
            assert_eq!(is_go, expected, "{section}");
        };
        check(r#""go:buildid" "x""#, true);
        check(r#""producers" "\01\08language\01\02Go\061.27.3""#, true);
        check(r#""producers" "\01\08language\01\03C11\00""#, false);
        check(r#""producers" "\01\0cprocessed-by\01\02Go\00""#, false);
        check(r#""producers" "\ff""#, false);
        check(r#""name" "Go""#, false);
    }

    #[test]
    fn a_module_begins_with_32_mib_more() {
        let check = |text: &str, expected: (u64, Option<u64>)| {
            let module = with_room(&wat::parse_str(text).unwrap()).unwrap();
            let memory = Parser::new(0).parse_all(&module).find_map(|payload| {
                let Payload::MemorySection(memories) = payload.unwrap() else {
                    return None;
                };
                memories.into_iter().next().map(Result::unwrap)
            });
            let memory = memory.unwrap();
            assert_eq!((memory.initial, memory.maximum), expected);
        };
        check("(module (memory 10))", (522, None));
        check("(module (memory 10 20))", (522, Some(522)));
        check("(module (memory 10 1000))", (522, Some(1000)));
    }
}
