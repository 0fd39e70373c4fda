/// What pruning takes out.
package enum PruningStructure: Hashable, Sendable {
  /// Single weights, by masks.
  case weights
  /// All but `kept` of every `block` neighbouring weights along the input axis, by masks.
  case pattern(kept: Int, block: Int)
  /// Tiles of `rows` outputs by `columns` inputs of weights, by masks.
  case tiles(rows: Int, columns: Int)
  /// Attention heads, physically.
  case heads
  /// Neurons of feed-forward networks, physically.
  case neurons
  /// Channels of a tower's residual stream, physically.
  case width
  /// Whole blocks, physically.
  case layers

  /// The words that say what there is.
  package static let choices = "weights, N:M, RxC, heads, neurons, width, layers"

  /// Reads `weights`, `heads`, `neurons`, `width`, `layers`, a pattern such as `2:4` or tiles such
  /// as `4x4`.
  package init?(_ text: String) {
    switch text {
    case "weights": self = .weights
    case "heads": self = .heads
    case "neurons": self = .neurons
    case "width": self = .width
    case "layers": self = .layers
    default:
      if let (kept, block) = Self.numbers(text, ":"), kept < block, block <= 1024 {
        self = .pattern(kept: kept, block: block)
      } else if let (rows, columns) = Self.numbers(text, "x"), max(rows, columns) <= 1024 {
        self = .tiles(rows: rows, columns: columns)
      } else {
        return nil
      }
    }
  }

  private static func numbers(_ text: String, _ separator: Character) -> (Int, Int)? {
    let parts = text.split(separator: separator, omittingEmptySubsequences: false).map { Int($0) }
    guard parts.count == 2, let first = parts[0], let second = parts[1], first > 0, second > 0
    else { return nil }
    return (first, second)
  }

  /// The kind of group whose units go, where units go.
  package var kind: DependencyGroup.Kind? {
    switch self {
    case .heads: .heads
    case .neurons: .neurons
    case .width: .width
    case .weights, .pattern, .tiles, .layers: nil
    }
  }

  /// Whether single elements of weights are masked.
  package var masksWeights: Bool {
    switch self {
    case .weights, .pattern, .tiles: true
    case .heads, .neurons, .width, .layers: false
    }
  }
}

extension PruningStructure: CustomStringConvertible {
  package var description: String {
    switch self {
    case .weights: "weights"
    case .pattern(let kept, let block): "\(kept):\(block)"
    case .tiles(let rows, let columns): "\(rows)x\(columns)"
    case .heads: "heads"
    case .neurons: "neurons"
    case .width: "width"
    case .layers: "layers"
    }
  }
}

extension PruningStructure: Codable {
  package init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    guard let structure = Self(text) else {
      throw DecodingError.dataCorrupted(
        .init(
          codingPath: decoder.codingPath,
          debugDescription: "structure must be one of \(Self.choices), found \(text)"))
    }
    self = structure
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}
