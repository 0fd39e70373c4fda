import ModelFormat

/// Why an interpreter was not made, or a call was refused.
public enum RuntimeError: Error, Equatable, Sendable {
  /// The model has no such tower, or the interpreter was made without it.
  case noSuchTower(Tower)
  /// A limit is negative or larger than 65536.
  case limit(found: Int)
  /// Less than one thread or more than 64.
  case threadCount(found: Int)
  /// No such kernel set, or this processor cannot run it.
  case noSuchKernelSet(found: Int)
  /// The arena would take more bytes than can be counted or had.
  case outOfMemory
  /// The given arena is too small.
  case arenaByteCount(expected: Int, found: Int)
  /// The given arena does not lie at a multiple of 64.
  case arenaAlignment
  /// Another number of floats than the images have.
  case pixelCount(expected: Int, found: Int)
  /// Another number of ids than the texts have, or no tokens.
  case tokenCount(expected: Int, found: Int)
  /// Texts are longer than the interpreter's limit.
  case textTooLong(limit: Int, found: Int)
  /// A token id is not in the vocabulary.
  case tokenOutOfRange(text: Int, position: Int, found: Int32)
  /// Another number of floats than the embeddings have.
  case embeddingCount(expected: Int, found: Int)
  /// Another number of floats than there are images times classes.
  case probabilityCount(expected: Int, found: Int)
}
