//! [`Params`]: `;name=value;flag;quoted="a;b,c"`.

/// Parameters as written, from the first `;` on; may be empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params<'m>(&'m [u8]);

#[expect(unused_variables, clippy::todo, reason = "signatures first")]
#[expect(unreachable_code, reason = "signatures first")]
impl<'m> Params<'m> {
    /// The value of the first parameter of that name, without quotes; empty for a flag.
    pub fn get(&self, name: &str) -> Option<&'m [u8]> {
        todo!()
    }
    /// Whether there is a parameter of that name.
    pub fn has(&self, name: &str) -> bool {
        todo!()
    }
    /// Every parameter, values as written, quotes included.
    pub fn iter(&self) -> impl Iterator<Item = (&'m [u8], Option<&'m [u8]>)> + use<'m> {
        todo!();
        std::iter::empty()
    }
    /// The parameters as written.
    pub fn as_bytes(&self) -> &'m [u8] {
        self.0
    }
}
