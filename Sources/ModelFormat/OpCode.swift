/// What an instruction of a program does; raw values are frozen, `formats/model.md` has the table.
public enum OpCode: UInt16, Sendable, CaseIterable {
  /// Pixels to rows of patches.
  case patchUnfold = 1
  /// Matrix product with weights, then bias, activation function, residual.
  case linear = 2
  /// Normalization of each row to mean 0 and variance 1, then scale and shift.
  case layerNorm = 3
  /// Scaled dot-product attention of all heads.
  case attention = 4
  /// Rows of the token table plus position rows.
  case tokenEmbedding = 5
  /// Class row in front of patch rows, plus position rows.
  case assembleTokens = 6
  /// The row at each item's pooled position.
  case pool = 7
  /// Division of each row by its Euclidean norm.
  case l2Normalize = 8
  /// float32 rows to uint8 codes.
  case quantize = 9
  /// Sum of two buffers.
  case add = 10
  /// Attention in which keys count as often as the tokens that were merged into them.
  case proportionalAttention = 11
  /// Merging of tokens that are alike.
  case mergeTokens = 12
  /// Keeping of the tokens that matter most.
  case dropTokens = 13

  /// float32 rows to uint8 codes, each row by a scale of its own.
  case quantizeTokens = 14
  /// ``linear`` of rows with scales of their own.
  case linearTokens = 15
  /// Attention over codes, its products in integers.
  case integerAttention = 16
  /// Choice of the experts of each token.
  case routeTokens = 17
  /// ``linear`` by the weights of each row's expert.
  case expertLinear = 18
  /// Weighted sum of what the experts of each token computed.
  case combineExperts = 19

  /// The minor version of the format that has the code first.
  var minorVersion: UInt16 { rawValue <= 10 ? 0 : rawValue <= 13 ? 1 : rawValue <= 16 ? 2 : 3 }

  /// Words that follow for each further thing of a list; 0 where there is none.
  public var repeatedWordCount: Int { self == .expertLinear ? 4 : 0 }

  /// Words of an instruction with this code, the first one included; of one with a list, with one
  /// thing on it.
  public var wordCount: Int {
    switch self {
    case .patchUnfold: 3
    case .linear: 9
    case .layerNorm: 6
    case .attention, .integerAttention: 12
    case .tokenEmbedding: 5
    case .assembleTokens: 5
    case .pool, .l2Normalize, .quantize: 3
    case .add: 4
    case .proportionalAttention, .dropTokens: 13
    case .mergeTokens: 9
    case .quantizeTokens: 4
    case .linearTokens: 10
    case .routeTokens: 8
    case .expertLinear: 11
    case .combineExperts: 6
    }
  }
}

/// The function that a linear instruction applies after its bias; raw values are frozen.
public enum Activation: UInt32, Sendable, CaseIterable {
  /// The identity.
  case none = 0
  /// `x * sigmoid(1.702 x)`.
  case quickGELU = 1
  /// `x * Φ(x)` with the exact normal distribution.
  case gelu = 2
}

/// Which position of a text or image is its pooled position; raw values are frozen.
public enum PoolingRule: UInt32, Sendable, CaseIterable {
  /// Position 0; the only rule of an image program.
  case firstRow = 0
  /// The first position of the largest token id.
  case largestToken = 1
  /// The first position of the end token, 0 where there is none.
  case endToken = 2
}
