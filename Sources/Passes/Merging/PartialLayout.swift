import GraphIR
import Operators
import TensorCore

/// Which channels of a group two models share in the merged one, and which each keeps for itself.
///
/// The merged model has the shared channels first, then those of the first model, then those of
/// the second.
struct PartialLayout {
  let group: PermutableGroup
  /// The channels that are shared, ascending.
  let shared: [Int]
  /// The channels that each model keeps, ascending.
  let separate: [Int]

  /// Keeps the `count` units that are least alike separate.
  init(_ group: PermutableGroup, similarities: [Double], separating count: Int) {
    self.group = group
    let order = similarities.indices.sorted { (similarities[$0], $0) < (similarities[$1], $1) }
    let apart = Set(order.prefix(count))
    separate = group.group.indices(of: apart)
    shared = group.group.indices(of: similarities.indices.filter { !apart.contains($0) })
  }

  /// Channels of the merged model.
  var width: Int { shared.count + 2 * separate.count }

  /// The rows of both models, `[rows, channels]`, as the merged model has them: `[rows, width]`.
  func merged(_ first: [Float], _ second: [Float]) -> [Float] {
    let channels = group.channelCount
    let rows = first.count / max(channels, 1)
    return [Float](unsafeUninitializedCapacity: rows * width) { target, count in
      var place = 0
      for row in 0..<rows {
        let start = row * channels
        for channel in shared {
          target[place] = (first[start + channel] + second[start + channel]) / 2
          place += 1
        }
        for side in [first, second] {
          for channel in separate {
            target[place] = side[start + channel]
            place += 1
          }
        }
      }
      count = place
    }
  }

  /// The parameter of the merged model: `mean` of both with the parts that each keeps, halved
  /// where they are what a linear layer sums over, since both models' sums are averaged.
  func merged(_ mean: Tensor, _ first: Tensor, _ second: Tensor, axis: Int, halves: Bool) -> Tensor
  {
    func own(_ tensor: Tensor) -> Tensor {
      let part = tensor.selecting(separate, onAxis: axis)
      guard halves else { return part }
      return Tensor(shape: part.shape, part.elements(of: Float.self).map { $0 / 2 })
    }
    return concatenated(
      [mean.selecting(shared, onAxis: axis), own(first), own(second)], axis: axis)
  }
}

/// The tensors one behind the other along `axis`.
private func concatenated(_ parts: [Tensor], axis: Int) -> Tensor {
  var shape = parts[0].shape
  shape[axis] = parts.reduce(0) { $0 + $1.shape[axis] }
  let outer = shape[..<axis].reduce(1, *)
  let inner = shape[(axis + 1)...].reduce(1, *)
  return Tensor(shape: shape, of: Float.self) { target in
    var place = 0
    for block in 0..<outer {
      for part in parts {
        let length = part.shape[axis] * inner
        part.withElements(of: Float.self) { source in
          for index in 0..<length { target[place + index] = source[block * length + index] }
        }
        place += length
      }
    }
  }
}

extension PermutableGroup {
  /// Whether all that the group touches are weights and biases of linear layers, none of them with
  /// an axis in another such group: then it can grow.
  func canGrow(in graph: Graph) -> Bool {
    group.kind != .width
      && group.members.allSatisfy { member in
        let readers = graph.nodes.filter { $0.inputs.contains(member.parameter) }
        return readers.count == 1 && readers[0].op is Linear
          && readers[0].inputs[0] != member.parameter
      }
  }
}
