/// Merges the tokens of each image whose keys point the same way.
///
/// As many tokens go as the output has fewer rows than the input.
public struct MergeTokens: Equatable, Sendable {
  /// `[tokens, columns]` float32.
  public var input: Int
  /// Keys of the same tokens.
  public var key: HeadColumns
  /// `[1, tokens]` float32, how many tokens each stands for; one each without it.
  public var sizes: Int?
  /// `[rows, columns]` float32.
  public var output: Int
  /// `[1, rows]` float32, how many tokens each row stands for.
  public var outputSizes: Int
  /// Heads of the keys.
  public var headCount: Int
  /// Columns of a head.
  public var headWidth: Int

  /// Gathers the operands.
  public init(
    input: Int, key: HeadColumns, sizes: Int? = nil, output: Int, outputSizes: Int,
    headCount: Int, headWidth: Int
  ) {
    self.input = input
    self.key = key
    self.sizes = sizes
    self.output = output
    self.outputSizes = outputSizes
    self.headCount = headCount
    self.headWidth = headWidth
  }
}

/// Keeps the tokens of each image that its first token attends to most, and some in any case.
public struct DropTokens: Equatable, Sendable {
  /// `[tokens, columns]` float32.
  public var input: Int
  /// Queries of the same tokens.
  public var query: HeadColumns
  /// Keys of the same tokens.
  public var key: HeadColumns
  /// `[rows, columns]` float32.
  public var output: Int
  /// Heads.
  public var headCount: Int
  /// Columns of a head.
  public var headWidth: Int
  /// Multiplies the scores; finite.
  public var scoreScale: Float
  /// Tokens at the front that stay in any case, at least one.
  public var leading: Int
  /// Columns of the grid of all tokens behind these; 0 where they are none.
  public var columns: Int
  /// Every so many rows and columns a token of the grid stays in any case; at least 1.
  public var spacing: Int

  /// Gathers the operands.
  public init(
    input: Int, query: HeadColumns, key: HeadColumns, output: Int, headCount: Int, headWidth: Int,
    scoreScale: Float, leading: Int, columns: Int = 0, spacing: Int = 1
  ) {
    self.input = input
    self.query = query
    self.key = key
    self.output = output
    self.headCount = headCount
    self.headWidth = headWidth
    self.scoreScale = scoreScale
    self.leading = leading
    self.columns = columns
    self.spacing = spacing
  }

  /// How many of `tokens` tokens stay in any case.
  ///
  /// - Precondition: `spacing` is at least 1.
  public func certainCount(of tokens: Int) -> Int {
    guard columns > 0, tokens > leading else { return leading }
    let places = tokens - leading
    let (rows, rest) = places.quotientAndRemainder(dividingBy: columns)
    let inRow = gridCount(below: columns)
    let partial = rows % spacing == spacing / 2 ? gridCount(below: rest) : 0
    return leading + gridCount(below: rows) * inRow + partial
  }

  /// How many numbers below `limit` are `spacing / 2` modulo the spacing.
  private func gridCount(below limit: Int) -> Int {
    limit <= spacing / 2 ? 0 : (limit - spacing / 2 - 1) / spacing + 1
  }
}
