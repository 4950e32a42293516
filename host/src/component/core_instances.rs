//! Counts how many core modules one instance of a component instantiates.
//!
//! A component can contain components and instantiate each of them many times. So a
//! file of a few hundred bytes can stand for more instances than fit into memory,
//! and wasmtime lays all of them out when it compiles. This module counts them
//! first, as numbers. A component that is imported cannot be counted; it counts as
//! too many.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Encoding, Instance, Payload,
};

/// The count of a component that cannot be counted.
const UNKNOWN: u32 = u32::MAX;

/// Counts while a component is parsed, one payload after the other.
#[derive(Default)]
pub(super) struct CoreInstances {
    /// The nested components and modules around the current position, from the
    /// outside in.
    within: Vec<Level>,
    /// The result, once the outermost component has ended.
    whole: u32,
}

#[derive(Default)]
struct Level {
    /// A component, and not a core module.
    is_component: bool,
    /// How many core modules one instance of this component instantiates.
    instances: u32,
    /// The same number for each component that this one can name, by its index.
    components: Vec<u32>,
}

impl Level {
    /// Returns the number of core modules that one instance of a component instantiates.
    fn of(&self, component: u32) -> u32 {
        let index = usize::try_from(component).ok();
        let count = index.and_then(|index| self.components.get(index));
        // An index that does not exist is an error for the validation to report.
        count.copied().unwrap_or(UNKNOWN)
    }

    fn add(&mut self, count: u32) {
        self.instances = self.instances.saturating_add(count);
    }
}

impl CoreInstances {
    /// Returns the number for the whole component, once it has been parsed.
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
                // An exported component gets a second index.
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

    /// Gives the next component index of the current component to a component with
    /// `count`.
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
