import TensorCore

/// What the random numbers of a training run are drawn for.
///
/// Each use has a stream of its own, so that one more draw for one of them leaves the others alone.
enum RandomStream: UInt64 {
  case order = 1
  case view
  case viewChoice
  case caption
  case replacement
}

extension SplitMix64 {
  /// A generator decided by `seed`, the use and two numbers alone, however many were made before.
  init(seed: UInt64, stream: RandomStream, _ first: Int, _ second: Int = 0) {
    var state = seed
    for part in [stream.rawValue, UInt64(bitPattern: Int64(first))] {
      var mixer = SplitMix64(seed: state &+ part)
      state = mixer.next()
    }
    var mixer = SplitMix64(seed: state &+ UInt64(bitPattern: Int64(second)))
    self.init(seed: mixer.next())
  }
}
