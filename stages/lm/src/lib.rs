//! Language models on candle: decoder, generation, training.
