pub struct Mmd;
