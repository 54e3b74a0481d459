// The parts of attention in their order, for a unit of csrc/isa: all in unnamed namespaces, but the functions at the end.
#include "attention_exp.inl"
#include "attention_numbers.inl"
#include "attention_pack.inl"
#include "attention_rows.inl"
#include "attention_tiles.inl"
