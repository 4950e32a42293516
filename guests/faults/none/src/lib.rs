//! A component that exports none of the contracts. A host must refuse to serve it.

wit_bindgen::generate!({
    inline: "
        package faults:none;

        world none {
            export hello: func() -> string;
        }
    ",
});

struct Component;

export!(Component);

impl Guest for Component {
    fn hello() -> String {
        "hello".to_owned()
    }
}
