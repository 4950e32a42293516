//! How many core modules an instance of a component instantiates.
//!
//! A component can contain components and instantiate each many times, so a file
//! of a few hundred bytes can stand for more instances than there is memory, and
//! wasmtime lays them all out when it compiles. They are counted here before, as
//! numbers. A component that comes from outside cannot be counted, and counts as
//! too many.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Encoding, Instance, Payload,
};

const UNKNOWN: u32 = u32::MAX;

/// Counts while a component is parsed, payload by payload.
#[derive(Default)]
pub(super) struct CoreInstances {
    /// The components and modules that the parser is in.
    within: Vec<Level>,
    whole: u32,
}

#[derive(Default)]
struct Level {
    is_component: bool,
    /// Core modules that an instance of it instantiates.
    instances: u32,
    /// The same for each component that it can name, by index.
    components: Vec<u32>,
}

impl Level {
    fn of(&self, component: u32) -> u32 {
        let index = usize::try_from(component).ok();
        let count = index.and_then(|index| self.components.get(index));
        // One that is not there is for the validation to find.
        count.copied().unwrap_or(UNKNOWN)
    }

    fn add(&mut self, count: u32) {
        self.instances = self.instances.saturating_add(count);
    }
}

impl CoreInstances {
    /// Those of the component that was parsed.
    pub(super) fn of_whole(&self) -> u32 {
        self.whole
    }

    pub(super) fn count(&mut self, payload: &Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::Version { encoding, .. } => self.within.push(Level {
                is_component: *encoding == Encoding::Component,
                ..Level::default()
            }),
            Payload::End(_) => self.end(),
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    if matches!(import?.ty, ComponentTypeRef::Component(_)) {
                        self.name(UNKNOWN);
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                // An export gives what it exports a second index.
                for export in exports.clone() {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Component {
                        let count = self.within.last().map_or(UNKNOWN, |it| it.of(export.index));
                        self.name(count);
                    }
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases.clone() {
                    self.alias(&alias?);
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances.clone() {
                    if let ComponentInstance::Instantiate {
                        component_index, ..
                    } = instance?
                        && let Some(level) = self.within.last_mut()
                    {
                        level.add(level.of(component_index));
                    }
                }
            }
            Payload::InstanceSection(instances) => {
                for instance in instances.clone() {
                    if let Instance::Instantiate { .. } = instance?
                        && let Some(level) = self.within.last_mut()
                    {
                        level.add(1);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) {
        match alias {
            ComponentAlias::Outer {
                kind: ComponentOuterAliasKind::Component,
                count,
                index,
            } => {
                let levels = usize::try_from(*count).unwrap_or(usize::MAX);
                let outer = self.within.iter().rev().nth(levels);
                self.name(outer.map_or(UNKNOWN, |level| level.of(*index)));
            }
            ComponentAlias::InstanceExport {
                kind: ComponentExternalKind::Component,
                ..
            } => self.name(UNKNOWN),
            _ => {}
        }
    }

    /// The next index of the component that is being parsed is one with `count`.
    fn name(&mut self, count: u32) {
        if let Some(level) = self.within.last_mut() {
            level.components.push(count);
        }
    }

    fn end(&mut self) {
        let Some(level) = self.within.pop() else {
            return;
        };
        match self.within.last_mut() {
            Some(outer) if level.is_component => outer.components.push(level.instances),
            Some(_) => {}
            None => self.whole = level.instances,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;
    use wasmparser::Parser;

    fn count(text: &str) -> u32 {
        let bytes = wat::parse_str(text).unwrap();
        let mut instances = CoreInstances::default();
        for payload in Parser::new(0).parse_all(&bytes) {
            instances.count(&payload.unwrap()).unwrap();
        }
        instances.of_whole()
    }

    #[test]
    fn instantiations_count_and_definitions_do_not() {
        assert_eq!(count("(component (core module $m))"), 0);
        assert_eq!(
            count(
                "(component (core module $m) (core instance (instantiate $m)) \
                 (core instance (instantiate $m)) (core instance))"
            ),
            2
        );
        let nested = "(component $c (core module $m) (core instance (instantiate $m)))";
        assert_eq!(count(&format!("(component {nested})")), 0);
        assert_eq!(
            count(&format!(
                "(component {nested} (instance (instantiate $c)) (instance (instantiate $c)) \
                 (component $d (alias outer 1 $c (component $e)) (instance (instantiate $e))) \
                 (export \"c\" (component $c)) (instance (instantiate $d)))"
            )),
            3
        );
        assert_eq!(
            count("(component (import \"c\" (component $c)) (instance (instantiate $c)))"),
            UNKNOWN
        );
    }

    #[test]
    fn a_few_bytes_can_stand_for_many() {
        let mut text = String::from("(component (core module $m) (component $c0 ");
        text.push_str("(core module $m) (core instance (instantiate $m)))");
        for level in 0..40 {
            write!(
                text,
                "(component $c{} (alias outer 1 $c{level} (component $c)) \
                 (instance (instantiate $c)) (instance (instantiate $c)))",
                level + 1
            )
            .unwrap();
        }
        text.push_str("(instance (instantiate $c40)))");
        assert_eq!(count(&text), UNKNOWN);
    }
}
