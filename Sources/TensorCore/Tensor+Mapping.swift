extension Tensor {
  /// The float32 tensor of what `body` makes of each element and its index.
  package func mapping(_ body: (_ index: Int, _ element: Float) -> Float) -> Tensor {
    Tensor(shape: shape, of: Float.self) { target in
      withElements(of: Float.self) { source in
        for index in source.indices { target[index] = body(index, source[index]) }
      }
    }
  }
}
