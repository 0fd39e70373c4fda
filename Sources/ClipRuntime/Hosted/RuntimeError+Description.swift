extension RuntimeError: CustomStringConvertible {
  /// One sentence: what, expected, found.
  public var description: String {
    switch self {
    case .noSuchTower(let tower): "the model or its interpreter has no \(tower) tower"
    case .limit(let found): "interpreter: expected limits of 0 to 65536, found \(found)"
    case .threadCount(let found): "interpreter: expected 1 to 64 threads, found \(found)"
    case .noSuchKernelSet(let found): "interpreter: kernel set \(found) cannot run here"
    case .outOfMemory: "interpreter: the memory for its arena is not there"
    case .arenaByteCount(let expected, let found):
      "interpreter: expected an arena of \(expected) bytes, found \(found)"
    case .arenaAlignment: "interpreter: the arena must lie at a multiple of 64"
    case .pixelCount(let expected, let found):
      "images: expected \(expected) floats, found \(found)"
    case .tokenCount(let expected, let found): "texts: expected \(expected) ids, found \(found)"
    case .textTooLong(let limit, let found):
      "texts: expected at most \(limit) tokens, found \(found)"
    case .tokenOutOfRange(let text, let position, let found):
      "text \(text), position \(position): token id \(found) is not in the vocabulary"
    case .embeddingCount(let expected, let found):
      "embeddings: expected room for \(expected) floats, found \(found)"
    case .probabilityCount(let expected, let found):
      "probabilities: expected room for \(expected) floats, found \(found)"
    }
  }
}
