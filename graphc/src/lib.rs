//! Build or load a computation graph once, compile it, run it many times.
